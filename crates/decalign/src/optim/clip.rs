//! Clipping by the norm of all gradients together.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::tensor_convert::to_f64s;
use decalign_core::{Elements, Real, simd, with_real};

use super::device;
use crate::Result;

/// The factor that brings the norm of all gradients down to `limit`, and the norm.
///
/// The factor is `min(1, limit / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`; gradients are
/// summed in the order given, so the result does not depend on threads. Of a device both are read by one copy.
///
/// # Errors
/// When a gradient is neither f32 nor f64; on a device, when they are of several types.
pub fn clip_gradient_norm<'a>(
    gradients: impl IntoIterator<Item = &'a Tensor>,
    limit: f64,
) -> Result<(f64, f64)> {
    let gradients: Vec<&Tensor> = gradients.into_iter().collect();
    if let Some(first) = gradients.first()
        && let Some(backend) = Backend::of(first)?
    {
        let clip = to_f64s(&device::clip(&backend, &gradients, limit)?)?;
        return Ok((clip[1], clip[0]));
    }
    let mut squares = 0.0;
    for gradient in gradients {
        squares += with_real!("gradient", gradient, T => squared_norm::<T>(gradient))?;
    }
    let norm = squares.sqrt();
    let factor = limit / (norm + 1e-6);
    Ok((if factor < 1.0 { factor } else { 1.0 }, norm))
}

fn squared_norm<T: Real>(x: &Tensor) -> decalign_core::Result<f64> {
    Ok(simd::sum_squares(&Elements::<T>::new(x)?).as_f64())
}
