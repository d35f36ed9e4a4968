//! All pairs of two sets of points, a register tile at a time.
//!
//! A tile is a few rows (6 in f32, 3 in f64) of one set against [`LANES`](crate::simd::LANES) points of the other: as
//! many sums as the registers of 256-bit vectors hold. [`Panels`] keeps points in the order in which
//! tiles read them. [`fill`] writes inner products or distances of up to [`STRIP`] by [`CHUNK`]
//! pairs to a buffer that stays in the nearest caches; [`add_product`] and [`add_transposed`] take such
//! a buffer of weights back to either set. Each is one call that is compiled once for every
//! instruction set, however many loops use it.

mod backward;
mod fill;
mod panels;

pub use backward::{add_product, add_signs, add_transposed};
pub use fill::{Measure, fill};
pub use panels::{Panels, rows_of_slabs};

/// The most rows of a buffer; a multiple of every tile.
pub const STRIP: usize = 96;
/// The most columns of a buffer, and the distance of its rows; a multiple of every tile.
pub const CHUNK: usize = 96;

/// Some of the points of a set.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The first, a multiple of [`STRIP`].
    pub first: usize,
    /// How many.
    pub len: usize,
}
