//! The few layers whose Candle versions cannot be trusted in training: with gradients that hold
//! for batches, strided inputs and every dtype that the loops compute in.
//!
//! Tensors are `(..., features)` row-major throughout: time comes before features, so a
//! convolution's windows and a linear layer's rows need no transposition.
//!
//! Each function is fused, on the CPU and on devices; [`mod@reference`] has the same mathematics in plain tensor operations.

mod concatenate;
mod convolution;
mod convolution_size;
pub mod device;
mod dropout;
mod gate;
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
