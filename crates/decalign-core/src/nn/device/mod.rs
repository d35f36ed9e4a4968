//! The layers on devices.

mod concatenate;
mod convolution;
mod dropout;
mod linear;
mod partial_sums;
mod rows;
mod scalars;
mod sum_columns;
mod weight_gradient;

use candle_core::DType;

use crate::Result;
use crate::device::Program;

pub(super) use concatenate::concatenate;
pub(super) use convolution::convolution;
pub(super) use dropout::dropout;
pub(super) use linear::linear;
pub use linear::{affine_map, affine_maps};
pub use partial_sums::{PartialSums, add_partial_sums};
pub(super) use rows::{layer_norm, softmax};
pub(crate) use scalars::stack_scalars;
pub(super) use scalars::{TERMS, weighted_sum};
pub use sum_columns::sum_columns;
pub use weight_gradient::{
    LAYERS, Layer, LayerGradients, Target, weight_gradient, weight_gradient_deferred,
};

/// The programs of this module, for checks without a device.
pub(crate) fn programs() -> Result<Vec<Program>> {
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        all.extend([
            rows::program(dtype)?,
            dropout::program(dtype)?,
            concatenate::program(dtype)?,
            convolution::program(dtype)?,
            weight_gradient::program(dtype, true)?,
            partial_sums::program(dtype)?,
            scalars::program(dtype)?,
        ]);
        all.extend(linear::programs(dtype)?);
    }
    Ok(all)
}
