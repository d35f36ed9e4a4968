//! Sums of columns on devices, and the program of them and of what stands around affine maps.

use candle_core::{DType, Tensor};

use super::dropout::CHUNKS;
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, chacha};

/// Lanes that add up columns: 32 warps.
pub(super) const TALL: usize = 1024;
/// Columns of such a group.
pub(super) const COLUMNS: usize = 8;

pub(super) fn program(dtype: DType, lanes: usize) -> Result<Program> {
    Ok(Program::new("linear", include_str!("linear.cu"), dtype)?
        .after(chacha::SOURCE)
        .constant("CHUNKS", CHUNKS)
        .lanes(lanes))
}

/// Sums over all dimensions of `g` but the last, of m.
///
/// # Errors
/// When the device fails.
pub fn sum_columns(backend: &Backend, g: &Tensor, m: usize) -> Result<Memory> {
    let mut sums = Memory::new(backend, g.dtype(), m)?;
    Launch::new(
        &program(g.dtype(), TALL)?,
        "sum_columns",
        m.div_ceil(COLUMNS),
    )
    .input(g)?
    .output(&mut sums)
    .count(g.elem_count() / m.max(1))?
    .count(m)?
    .run(backend)?;
    Ok(sums)
}
