//! The few layers whose Candle versions cannot be trusted in training: with gradients that hold
//! for batches, strided inputs and every dtype that the loops compute in.
//!
//! Tensors are `(..., features)` row-major throughout: time comes before features, so a
//! convolution's windows and a linear layer's rows need no transposition.
//!
//! Each function is fused, on the CPU and on devices; [`mod@reference`] has the same mathematics in plain tensor operations.

mod concatenate;
mod convolution;
pub mod device;
mod dropout;
mod init;
mod linear;
mod mode;
mod norm;
mod parameters;
pub mod reference;
mod softmax;
mod weighted_sum;

pub use concatenate::concatenate;
pub use convolution::convolution;
pub use dropout::{apply_dropout, dropout, dropout_mask};
pub use init::{kaiming_uniform, uniform, xavier_uniform};
pub use linear::{linear, linear_relu, linear_relu_dropout};
pub use mode::Mode;
pub use norm::layer_norm;
pub use parameters::{Init, Parameters};
pub use softmax::softmax;
pub use weighted_sum::{sum_on_device, weighted_sum};

/// The device programs of this module, for checks without a device.
pub(crate) fn device_programs() -> crate::Result<Vec<crate::device::Program>> {
    use candle_core::DType::{F32, F64};
    let of = |dtype| {
        Ok(vec![
            device::rows_program(dtype)?,
            device::dropout_program(dtype)?,
            device::concatenate_program(dtype)?,
            device::convolution_program(dtype)?,
            device::weight_gradient_program(dtype, true)?,
            device::partial_sums_program(dtype)?,
            device::scalars_program(dtype)?,
        ])
    };
    let both: crate::Result<Vec<_>> = [F32, F64].into_iter().map(of).collect();
    let linear: crate::Result<Vec<_>> = [F32, F64]
        .into_iter()
        .map(device::linear_programs)
        .collect();
    Ok([both?.concat(), linear?.concat()].concat())
}
