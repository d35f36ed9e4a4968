//! The layers in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::{D, Tensor};

use crate::Result;

/// `y = x W^T + b`, see [`super::linear`].
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rows = x.elem_count() / x.dim(D::Minus1)?;
    let flat = x.contiguous()?.reshape((rows, ()))?;
    // Contiguous on both sides: Candle's product is wrong for some transposed operands.
    let mut y = flat.matmul(&weight.t()?.contiguous()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    let mut dims = x.dims().to_vec();
    let last = dims.len() - 1;
    dims[last] = weight.dim(0)?;
    Ok(y.reshape(dims)?)
}

/// Convolution over time, see [`super::convolution`].
///
/// # Errors
/// When the shapes do not fit.
pub fn convolution(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (kernel, steps) = (weight.dim(2)?, x.dim(1)?);
    let length = steps + 1 - kernel;
    let mut y: Option<Tensor> = None;
    for k in 0..kernel {
        let window = x.narrow(1, k, length)?;
        let term = linear(&window, &weight.narrow(2, k, 1)?.squeeze(2)?, None)?;
        y = Some(match y {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    y.ok_or_else(|| crate::Error::value("kernel size", 0, "must be at least 1"))
}

/// Layer normalisation, see [`super::layer_norm`].
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    Ok(normal.broadcast_mul(weight)?.broadcast_add(bias)?)
}

/// Softmax over the last dimension, see [`super::softmax`].
///
/// # Errors
/// When `x` has no dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    let e = shifted.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}
