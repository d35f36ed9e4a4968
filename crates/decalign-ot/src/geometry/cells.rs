//! Room for the cells of a few rows, and what they become.

use decalign_core::Real;
use decalign_core::simd::{self, Aligned, Isa, LANES};

/// Rows whose cells are held at once; a multiple of every tile.
pub(crate) const ROWS: usize = 6;

/// The length of rows of `m` costs: whole blocks, so that no loop has a rest. What is behind the end
/// costs 0 and has no mass.
pub(crate) fn padded(m: usize) -> usize {
    m.next_multiple_of(LANES)
}

/// Cells of a few rows.
#[derive(Default)]
pub(crate) struct Cells<T> {
    /// Row after row, of padded length.
    pub(crate) values: Aligned<T>,
    pub(super) lanes: [[T; LANES]; ROWS],
    columns: usize,
}

impl<T: Real> Cells<T> {
    #[inline(always)]
    pub(super) fn clear(&mut self, columns: usize) {
        self.columns = columns;
        self.values.fit(columns * ROWS);
        self.lanes = [[T::zero(); LANES]; ROWS];
    }

    #[inline(always)]
    pub(crate) fn row(&self, r: usize) -> &[T] {
        &self.values[r * self.columns..][..self.columns]
    }

    /// The sum of a row of exponentials.
    #[inline(always)]
    pub(crate) fn sum(&self, r: usize) -> T {
        simd::total(self.lanes[r])
    }
}

/// What becomes of the exponents of a block.
pub(crate) trait Sink<T: Real> {
    fn take<I: Isa>(isa: I, exponents: [T; LANES], out: &mut [T; LANES], sums: &mut [T; LANES]);
}
