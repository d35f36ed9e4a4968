//! Tiles of inner products between the rows of two tables, for kernels that meet all pairs.

use candle_core::{DType, Tensor};

use super::Program;

/// Lanes of a group: 16 by 16.
pub const LANES: usize = 256;

/// Coordinates that shared memory holds at a time.
const DEPTH: usize = 8;

/// Rows and columns of a tile that a lane holds: as many as registers take.
const fn each(dtype: DType) -> usize {
    match dtype {
        DType::F64 => 4,
        _ => 8,
    }
}

/// Rows and columns of a group's tile.
pub const fn side(dtype: DType) -> usize {
    16 * each(dtype)
}

/// `program` with `pair_products` and what belongs to it (`prelude/pairs.h`) before its source, for tables that are
/// [`aligned`] or not.
pub fn with_pairs(program: Program, aligned: bool) -> Program {
    let each = each(program.dtype());
    tiled(program, (each, DEPTH), aligned)
}

/// Whether the rows of all tables can be read in vectors.
pub fn aligned(tables: &[&Tensor]) -> bool {
    let fits = |x: &&Tensor| {
        let width = x.dims().last().copied().unwrap_or(0);
        // What is not contiguous is copied to memory of its own.
        let start = if x.is_contiguous() {
            x.layout().start_offset()
        } else {
            0
        };
        width % 4 == 0 && start % 4 == 0
    };
    tables.iter().all(fits)
}

/// Rows and columns of a small tile, whatever the type.
pub const SMALL_SIDE: usize = 64;

/// [`with_pairs`] in tiles of [`SMALL_SIDE`]: for tables of which larger ones would keep a few groups busy.
pub fn with_small_pairs(program: Program, aligned: bool) -> Program {
    tiled(program, (SMALL_SIDE / 16, 2 * DEPTH), aligned)
}

/// Rows and columns of the smallest tile.
pub const LEAST_SIDE: usize = 32;

/// [`with_pairs`] in tiles of [`LEAST_SIDE`]: for tables of which even small ones would.
pub fn with_least_pairs(program: Program, aligned: bool) -> Program {
    tiled(program, (LEAST_SIDE / 16, 4 * DEPTH), aligned)
}

fn tiled(program: Program, (each, depth): (usize, usize), aligned: bool) -> Program {
    program
        .after(include_str!("prelude/pairs.h"))
        .lanes(LANES)
        .constant("EACH", each)
        .constant("DEPTH", depth)
        .constant("ALIGNED", usize::from(aligned))
}
