//! Initial weights, drawn as PyTorch's defaults are.

use candle_core::{DType, Device, Shape, Tensor};

use crate::random::Stream;
use crate::{Error, Result};

/// Numbers from the uniform distribution on [-bound, bound).
///
/// # Errors
/// When the tensor cannot be made on the device.
pub fn uniform(
    shape: impl Into<Shape>,
    bound: f64,
    stream: Stream,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    let numbers = stream.uniform(shape.elem_count(), -bound, bound);
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?
        .to_dtype(dtype)?
        .to_device(device)?)
}

/// PyTorch's default for linear and convolution weights and for the biases beside them:
/// uniform on `±1 / sqrt(fan_in)` (He and others, 2015, with a = sqrt 5).
///
/// # Errors
/// When `fan_in` is 0.
pub fn kaiming_uniform(
    shape: impl Into<Shape>,
    fan_in: usize,
    stream: Stream,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if fan_in == 0 {
        return Err(Error::value(
            "fan in",
            0,
            "a layer needs at least one input",
        ));
    }
    uniform(shape, 1.0 / (fan_in as f64).sqrt(), stream, dtype, device)
}

/// Uniform on `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio, 2010).
///
/// # Errors
/// When both fans are 0.
pub fn xavier_uniform(
    shape: impl Into<Shape>,
    (fan_in, fan_out): (usize, usize),
    stream: Stream,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if fan_in + fan_out == 0 {
        return Err(Error::value(
            "fan in and out",
            0,
            "a layer needs inputs or outputs",
        ));
    }
    let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
    uniform(shape, bound, stream, dtype, device)
}
