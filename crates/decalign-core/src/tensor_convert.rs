//! Numbers of tensors on the host.

use candle_core::{DType, Device, Tensor};

use crate::device::Backend;
use crate::{Elements, Result, nn};

/// A scalar tensor of any dtype and device as a number.
///
/// # Errors
/// When the tensor has more than one element, or cannot be read.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[2.5f32], &Device::Cpu)?;
/// assert_eq!(decalign_core::tensor_convert::scalar(&x)?, 2.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn scalar(x: &Tensor) -> Result<f64> {
    let x = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(x.reshape(())?.to_scalar()?)
}

/// Scalar tensors of one device as numbers; one copy to the host reads all of a device.
///
/// # Errors
/// When a tensor has more than one element, or cannot be read.
pub fn scalars(all: &[&Tensor]) -> Result<Vec<f64>> {
    let Some(first) = all.first() else {
        return Ok(Vec::new());
    };
    let Some(backend) = Backend::of(first)? else {
        return all.iter().map(|x| scalar(x)).collect();
    };
    let alike = all.iter().map(|x| x.to_dtype(first.dtype()));
    let alike = alike.collect::<candle_core::Result<Vec<_>>>()?;
    to_f64s(&nn::device::stack_scalars(&backend, &alike)?)
}

/// The elements of a tensor of any dtype and device, in row-major order.
///
/// # Errors
/// When the tensor cannot be read.
pub fn to_f64s(x: &Tensor) -> Result<Vec<f64>> {
    let x = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(Elements::<f64>::new(&x)?.to_vec())
}
