//! Tiles of inner products between the rows of two f32 tables on tensor cores, as accurate as in f32: each number is the sum of
//! three bf16 numbers.

use candle_core::{DType, Tensor};

use super::{Backend, Launch, Memory, Program, pairs};
use crate::Result;

/// The widest tables whose rows fit shared memory.
pub const MAX_WIDTH: usize = 128;
/// Rows and columns of a tile.
pub const SIDE: usize = 128;
/// Groups of lanes that share the rows of a tile: each has its own sums over them.
pub const TEAMS: usize = 2;

/// Coordinates that are multiplied at a time.
const SLICE_WIDTH: usize = 16;

fn slices(width: usize) -> usize {
    width.div_ceil(SLICE_WIDTH)
}

/// Slices of columns that are multiplied between two barriers, while as many are copied: two halve the number of barriers.
fn at_a_time(width: usize) -> usize {
    match slices(width) % 2 {
        0 => 2,
        _ => 1,
    }
}

/// Elements of a tile of a table.
pub fn tile_size(width: usize) -> usize {
    slices(width) * 3 * SIDE * SLICE_WIDTH
}

/// Bytes of shared memory that a group needs, for [`Launch::large`].
pub fn shared_bytes(width: usize) -> usize {
    (slices(width) + 2 * at_a_time(width)) * 3 * SIDE * SLICE_WIDTH * DType::BF16.size_in_bytes()
}

/// Bytes of shared memory that a kernel may declare in addition.
const BESIDE: usize = 3 << 10;

/// True for f32 tables on a device with tensor cores and enough shared memory; some devices have enough for 80 coordinates only.
pub fn supports(backend: &Backend, dtype: DType, width: usize) -> bool {
    let fits = |bytes: usize| bytes >= shared_bytes(width) + BESIDE;
    dtype == DType::F32
        && (1..=MAX_WIDTH).contains(&width)
        && backend.has_tables()
        && backend.runtime().largest_shared().is_ok_and(fits)
}

/// `program` with prelude/bf16x3.h before its source, for tables of this width.
pub fn with_bf16x3(program: Program, width: usize) -> Program {
    program
        .after(include_str!("prelude/bf16x3.h"))
        .with_tables(DType::BF16)
        .lanes(pairs::LANES)
        .constant("SLICES", slices(width))
        .constant("AT_A_TIME", at_a_time(width))
}

pub(super) fn program(width: usize) -> Result<Program> {
    let program = Program::new("bf16x3", include_str!("bf16x3.cu"), DType::F32)?;
    Ok(with_bf16x3(program, width))
}

/// A table split into three bf16 numbers each, for kernels made by [`with_bf16x3`].
///
/// # Shapes
/// `x` (n, width) of f32, which [`supports`] accepts; the result is flat, in the layout of prelude/bf16x3.h.
///
/// # Errors
/// When the kernel cannot start.
pub fn split(backend: &Backend, x: &Tensor) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let tiles = n.div_ceil(SIDE);
    let mut split = Memory::new(backend, DType::BF16, tiles * tile_size(width))?;
    Launch::new(&program(width)?, "split", tiles)
        .input(x)?
        .output(&mut split)
        .count(n)?
        .count(width)?
        .run(backend)?;
    Ok(split.into_tensor())
}
