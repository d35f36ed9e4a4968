//! Tiles of inner products between the rows of two tables of f32 on tensor cores, as exact as in f32: each number in three of 16 bits.

use candle_core::{DType, Tensor};

use super::{Backend, Launch, Memory, Program, pairs};
use crate::Result;

/// The widest tables whose rows shared memory takes.
pub const WIDEST: usize = 128;
/// Rows and columns of a tile.
pub const SIDE: usize = 128;
/// Groups of lanes that share the rows of a tile: each has its own sums over them.
pub const TEAMS: usize = 2;

/// Coordinates that are multiplied at a time.
const SLICE_WIDTH: usize = 16;

fn slices(width: usize) -> usize {
    width.div_ceil(SLICE_WIDTH)
}

/// Slices of columns that come by at a time, while as many are copied: the fewer meetings of all lanes the better.
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

/// Bytes of shared memory that a group takes, for [`Launch::large`].
pub fn room(width: usize) -> usize {
    (slices(width) + 2 * at_a_time(width)) * 3 * SIDE * SLICE_WIDTH * DType::BF16.size_in_bytes()
}

/// Bytes of shared memory that a kernel may declare beside.
const BESIDE: usize = 3 << 10;

/// Whether tables of such numbers go in parts here: f32 where there are tensor cores and room, which some devices have for 80
/// coordinates only.
pub fn takes(backend: &Backend, dtype: DType, width: usize) -> bool {
    let fits = |bytes: usize| bytes >= room(width) + BESIDE;
    dtype == DType::F32
        && (1..=WIDEST).contains(&width)
        && backend.has_tables()
        && backend.largest_shared().is_ok_and(fits)
}

/// `program` with what prelude/parts.h says before its source, for tables of this width.
pub fn with_parts(program: Program, width: usize) -> Program {
    program
        .after(include_str!("prelude/parts.h"))
        .with_tables(DType::BF16)
        .lanes(pairs::LANES)
        .constant("SLICES", slices(width))
        .constant("AT_A_TIME", at_a_time(width))
}

pub(super) fn program(width: usize) -> Result<Program> {
    let program = Program::new("parts", include_str!("parts.cu"), DType::F32)?;
    Ok(with_parts(program, width))
}

/// A table in parts, for kernels that take such.
///
/// # Shapes
/// `x` (n, width), of f32, for which [`takes`]; the result flat, as prelude/parts.h says.
///
/// # Errors
/// When the kernel cannot start.
pub fn split(backend: &Backend, x: &Tensor) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let tiles = n.div_ceil(SIDE);
    let mut parts = Memory::new(backend, DType::BF16, tiles * tile_size(width))?;
    Launch::new(&program(width)?, "split", tiles)
        .input(x)?
        .output(&mut parts)
        .count(n)?
        .count(width)?
        .run(backend)?;
    Ok(parts.into_tensor())
}
