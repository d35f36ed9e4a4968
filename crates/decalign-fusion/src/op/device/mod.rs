//! Projections, norms and means on devices.

pub(crate) mod mean;
pub(crate) mod projection;
pub(crate) mod residual_norm;

use candle_core::DType;
use decalign_core::Result;
use decalign_core::device::Program;

/// Programs of these operations, for checks without a device.
pub(crate) fn programs(dtype: DType) -> Result<Vec<Program>> {
    let mut all = vec![mean::program(dtype, false)?, mean::program(dtype, true)?];
    for width in [32, 48, 64, 768] {
        if !residual_norm::supports(width, dtype) {
            continue;
        }
        all.push(residual_norm::program(width, dtype, true)?);
    }
    Ok(all)
}
