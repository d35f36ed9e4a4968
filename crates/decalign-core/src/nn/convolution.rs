//! Convolution over time.

use candle_core::Tensor;

use super::convolution_size::Size;
use super::device;
use crate::device::Backend;
use crate::gemm::{Matrix, Store, matmul};
use crate::op::{Backward, InputGradients, Output, record_one};
use crate::{Elements, Real, Result, with_real};

/// One-dimensional convolution over time, stride 1, no padding, no bias:
/// `y[b, t, o] = sum_{j, i} weight[o, i, j] x[b, t + j, i]`.
///
/// Unlike PyTorch's `conv1d` it takes and gives time before channels; the weight has PyTorch's
/// layout. In this layout the windows of a sequence are a matrix with overlapping rows, so the
/// convolution is one matrix product a sample.
///
/// # Shapes
/// `x` (B, T, C), `weight` (O, C, K) with 1 <= K <= T; the result is (B, T - K + 1, O).
///
/// # Errors
/// When the shapes or dtypes do not fit, or the kernel is longer than the sequence.
pub fn convolution(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let size = Size::new(x, weight)?;
    if let Some(backend) = Backend::of(x)? {
        return device::convolution(&backend, x, weight, size);
    }
    if size.kernel == 1 {
        return super::linear(x, &weight.squeeze(2)?, None);
    }
    with_real!("x", x, T => fused::<T>(x, weight, size))
}

/// (O, C, K) to (O, K, C), the order of a window's elements.
fn by_window<T: Real>(weight: &[T], size: Size) -> Vec<T> {
    let (c, k) = (size.channels, size.kernel);
    let mut out = vec![T::zero(); weight.len()];
    for (from, to) in weight.chunks_exact(c * k).zip(out.chunks_exact_mut(c * k)) {
        for i in 0..c {
            for j in 0..k {
                to[j * c + i] = from[i * k + j];
            }
        }
    }
    out
}

/// (O, K, C) back to (O, C, K).
fn by_channel<T: Real>(weight: &[T], size: Size) -> Vec<T> {
    let swapped = Size {
        channels: size.kernel,
        kernel: size.channels,
        ..size
    };
    by_window(weight, swapped)
}

/// The windows of one sequence, one a row.
fn windows<T: Real>(x: &[T], size: Size) -> Matrix<'_, T> {
    Matrix::strided(x, size.length(), size.kernel * size.channels, size.channels)
}

fn fused<T: Real>(x: &Tensor, weight: &Tensor, size: Size) -> Result<Tensor> {
    let (length, m) = (size.length(), size.outputs);
    let mut y = vec![T::zero(); size.batch * length * m];
    {
        let (x, w) = (
            Elements::<T>::new(x)?,
            by_window(&Elements::<T>::new(weight)?, size),
        );
        let w = Matrix::new(&w, m, size.kernel * size.channels).t();
        let samples = x.chunks_exact((size.steps * size.channels).max(1));
        for (y, x) in y.chunks_exact_mut((length * m).max(1)).zip(samples) {
            matmul(y, m, windows(x, size), w, Store::Write);
        }
    }
    let output = Output::new(y, (size.batch, length, m));
    record_one("convolution", &[x, weight], output, move |b| {
        backward::<T>(b, size)
    })
}

fn backward<T: Real>(b: &Backward, size: Size) -> Result<InputGradients> {
    let gradient = b.gradient(0)?;
    let g = Elements::<T>::new(&gradient)?;
    let (length, m, c) = (size.length(), size.outputs, size.channels);
    let (sample, window) = (size.steps * c, size.kernel * c);
    let mut gradients = vec![None, None];
    if b.needed[0] {
        let w = by_window(&Elements::<T>::new(&b.inputs[1])?, size);
        let mut dx = vec![T::zero(); size.batch * sample];
        for (dx, g) in dx.chunks_exact_mut(sample).zip(g.chunks_exact(length * m)) {
            // Windows overlap, so their gradients are added one offset at a time.
            for j in 0..size.kernel {
                let w = Matrix::strided(&w[j * c..], m, c, window);
                matmul(
                    &mut dx[j * c..],
                    c,
                    Matrix::new(g, length, m),
                    w,
                    Store::Add,
                );
            }
        }
        gradients[0] = Some(Tensor::from_vec(
            dx,
            b.inputs[0].dims(),
            b.inputs[0].device(),
        )?);
    }
    if b.needed[1] {
        let x = Elements::<T>::new(&b.inputs[0])?;
        let mut dw = vec![T::zero(); m * window];
        for (x, g) in x.chunks_exact(sample).zip(g.chunks_exact(length * m)) {
            matmul(
                &mut dw,
                window,
                Matrix::new(g, length, m).t(),
                windows(x, size),
                Store::Add,
            );
        }
        let dw = by_channel(&dw, size);
        gradients[1] = Some(Tensor::from_vec(
            dw,
            b.inputs[1].dims(),
            b.inputs[1].device(),
        )?);
    }
    Ok(gradients)
}
