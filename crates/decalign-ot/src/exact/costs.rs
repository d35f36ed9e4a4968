//! Costs of the points that have mass, as one matrix.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, Result};

use crate::geometry::{self, Geometry, ROWS, padded};

/// A matrix of costs in rows of whole blocks; behind the end they are infinite.
///
/// Its cells are what is left of the costs after the least of each row, then of each column, is
/// taken away. That moves the potentials and no plan, and what all costs share takes no digits
/// from what they differ by.
pub(super) struct Costs<T> {
    cells: Vec<T>,
    stride: usize,
    /// What was taken away, of rows and of columns.
    pub(super) least: [Vec<f64>; 2],
}

impl<T: Real> Costs<T> {
    /// The costs between the listed points, computed in f64 and held in `T`.
    pub(super) fn new(geometry: &Geometry, rows: &[usize], columns: &[usize]) -> Result<Self> {
        let stride = padded(columns.len());
        let mut cells = vec![T::infinity(); rows.len() * stride];
        let by_row = fill(&geometry.stored()?, (rows, columns), &mut cells)?;
        let by_column = reduce_columns(&mut cells, stride, columns.len());
        Ok(Self {
            cells,
            stride,
            least: [by_row, by_column],
        })
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn row(&self, i: usize) -> &[T] {
        &self.cells[i * self.stride..][..self.stride]
    }

    pub(super) fn at(&self, i: usize, j: usize) -> f64 {
        self.cells[i * self.stride + j].as_f64()
    }
}

/// Writes the rows of costs between the listed points, less the least of each row, which is returned.
fn fill<T: Real>(
    geometry: &Geometry,
    (rows, columns): (&[usize], &[usize]),
    cells: &mut [T],
) -> Result<Vec<f64>> {
    let (costs, (n, m)) = (geometry.read::<f64>(0)?, geometry.size());
    let mut all = Vec::with_capacity(rows.len());
    let mut block = geometry::Cells::default();
    let mut places = rows
        .iter()
        .zip(cells.chunks_exact_mut(padded(columns.len())))
        .peekable();
    for first in (0..n).step_by(ROWS) {
        let count = ROWS.min(n - first);
        if places.peek().is_none_or(|(i, _)| **i >= first + count) {
            continue;
        }
        costs.rows(first, count, padded(m), &mut block);
        while let Some((i, to)) = places.next_if(|(i, _)| **i < first + count) {
            let from = block.row(i - first);
            let least = columns.iter().fold(f64::INFINITY, |m, j| from[*j].min(m));
            for (to, j) in to.iter_mut().zip(columns) {
                *to = T::of(from[*j] - least);
            }
            all.push(least);
        }
    }
    Ok(all)
}

/// Takes the least of each column away; returns it.
fn reduce_columns<T: Real>(cells: &mut [T], stride: usize, columns: usize) -> Vec<f64> {
    let mut least = vec![T::infinity(); columns];
    for row in cells.chunks_exact(stride) {
        for (least, c) in least.iter_mut().zip(row) {
            *least = if *c < *least { *c } else { *least };
        }
    }
    for row in cells.chunks_exact_mut(stride) {
        row.iter_mut()
            .zip(&least)
            .for_each(|(c, least)| *c -= *least);
    }
    least.into_iter().map(T::as_f64).collect()
}

/// The least of `costs - prices`, and where it is; `None` when all are infinite or NaN.
pub(super) fn least<T: Real>(costs: &[T], prices: &[f64]) -> Option<(f64, usize)> {
    let (least, at) = simd::dispatch(Least { costs, prices });
    Some((least, at?))
}

/// The least of `costs - prices`.
pub(super) fn least_value<T: Real>(costs: &[T], prices: &[f64]) -> f64 {
    simd::dispatch(LeastValue { costs, prices })
}

struct Least<'a, T> {
    costs: &'a [T],
    prices: &'a [f64],
}

impl<T: Real> Kernel for Least<'_, T> {
    type Output = (f64, Option<usize>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f64, Option<usize>) {
        let Self { costs, prices } = self;
        let least = LeastValue { costs, prices }.run(isa);
        let mut all = costs.iter().zip(prices);
        let at = all.position(|(c, g)| c.as_f64() - g == least);
        (least, at.filter(|_| least < f64::INFINITY))
    }
}

struct LeastValue<'a, T> {
    costs: &'a [T],
    prices: &'a [f64],
}

impl<T: Real> Kernel for LeastValue<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> f64 {
        let mut least = [f64::INFINITY; LANES];
        // Rows are padded: there is no rest.
        let (costs, _) = self.costs.as_chunks::<LANES>();
        let (prices, _) = self.prices.as_chunks::<LANES>();
        for (c, g) in costs.iter().zip(prices) {
            for i in 0..LANES {
                let reduced = c[i].as_f64() - g[i];
                least[i] = if reduced < least[i] {
                    reduced
                } else {
                    least[i]
                };
            }
        }
        least.into_iter().fold(f64::INFINITY, f64::min)
    }
}
