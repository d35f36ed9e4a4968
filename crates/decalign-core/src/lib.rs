//! Ground floor of decalign: what every numerical crate of the workspace stands on.
//!
//! | module | what it gives |
//! |---|---|
//! | [`simd`] | exp, log, dot, sums on slices, compiled for every instruction set, chosen at run time |
//! | [`parallel`] | loops whose results do not depend on the number of threads |
//! | [`gemm`] | matrix products on slices, likewise |
//! | [`pairs`] | inner products and distances of all pairs of points, in register tiles |
//! | [`analytic`], [`moments`] | scalar losses with gradients in f64; central moments and their discrepancy |
//! | [`cholesky`] | factors of small positive definite matrices |
//! | [`device`] | kernels on CUDA and Metal, and an emulator that checks them |
//! | [`op`] | differentiable Candle operations with any number of inputs and outputs |
//! | [`nn`] | linear, 1-D convolution, layer norm, softmax, dropout, initialisation: with gradients that hold |
//! | [`mapped`] | files as memory, read-only
//! | [`profile`] | where time goes, by phases, forward and backward |
//! | [`tensor_convert`] | tensors as numbers on the host |
//! | [`random`] | seeded, counter-based random numbers |
//! | [`gradcheck`], [`agree`] | a gradient against central differences, two implementations against one another |
//!
//! An operation reads its inputs as slices ([`Elements`]), computes with the loops of this crate,
//! and records its gradient with [`op::record`]:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_core::{gradcheck, nn};
//!
//! let x = Tensor::new(&[[1f64, 2.0, 4.0], [0.5, -1.0, 2.0]], &Device::Cpu)?;
//! let y = nn::softmax(&x)?;
//! assert!((y.sum(1)?.to_vec1::<f64>()?[0] - 1.0).abs() < 1e-12);
//! // Every layer here passes this check, on strided views too.
//! gradcheck(&[x], 1e-8, |x| Ok(vec![nn::softmax(&x[0])?]))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod analytic;
mod check;
pub mod cholesky;
pub mod device;
mod elements;
mod error;
pub mod gemm;
pub mod mapped;
pub mod moments;
pub mod nn;
pub mod op;
pub mod pairs;
pub mod parallel;
pub mod profile;
pub mod random;
mod real;
pub mod simd;
pub mod tensor_convert;

pub use check::{agree, gradcheck};
pub use elements::Elements;
pub use error::{Error, ErrorKind, Result};

pub use real::Real;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<device::Program>> {
    Ok([nn::device::programs()?, device::programs()?].concat())
}

/// Runs `$body` with the type `$t` bound to `f32` or `f64`, whichever the tensor holds.
///
/// Any other dtype is an [`Error`] that names the tensor.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::{Elements, Result, with_real};
/// fn total(x: &Tensor) -> Result<f64> {
///     with_real!("x", x, T => Ok(Elements::<T>::new(x)?.iter().map(|v| f64::from(*v)).sum()))
/// }
/// assert_eq!(total(&Tensor::ones(3, DType::F32, &Device::Cpu)?)?, 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! with_real {
    ($name:expr, $tensor:expr, $t:ident => $body:expr) => {
        match $tensor.dtype() {
            $crate::__private::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::__private::DType::F64 => {
                type $t = f64;
                $body
            }
            other => Err($crate::Error::tensor($name, "dtype f32 or f64", other)),
        }
    };
}

#[doc(hidden)]
pub mod __private {
    pub use candle_core::DType;
}
