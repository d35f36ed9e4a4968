//! Costs between the points with mass as one matrix, and its least reduced costs.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, Result};

use crate::geometry::{self, Geometry, ROWS, padded};

/// A matrix of costs whose rows are padded with infinity to whole vector blocks.
///
/// The least cost of each row, then of each column, is subtracted. That shifts the potentials and no plan, and a
/// constant common to all costs takes no digits from their differences.
pub(super) struct CostMatrix<T> {
    cells: Vec<T>,
    stride: usize,
    /// The costs subtracted from rows and from columns.
    pub(super) least: [Vec<f64>; 2],
}

impl<T: Real> CostMatrix<T> {
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

/// Writes the costs between the listed points less the least of each row; returns those.
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

/// Subtracts the least of each column; returns those.
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

/// The least reduced cost `costs - potentials` and its index; `None` when all are infinite or NaN.
pub(super) fn least<T: Real>(costs: &[T], potentials: &[f64]) -> Option<(f64, usize)> {
    let (least, at) = simd::dispatch(Least { costs, potentials });
    Some((least, at?))
}

/// The least reduced cost `costs - potentials`.
pub(super) fn least_value<T: Real>(costs: &[T], potentials: &[f64]) -> f64 {
    simd::dispatch(LeastValue { costs, potentials })
}

struct Least<'a, T> {
    costs: &'a [T],
    potentials: &'a [f64],
}

impl<T: Real> Kernel for Least<'_, T> {
    type Output = (f64, Option<usize>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f64, Option<usize>) {
        let Self { costs, potentials } = self;
        let least = LeastValue { costs, potentials }.run(isa);
        let mut all = costs.iter().zip(potentials);
        let at = all.position(|(c, g)| c.as_f64() - g == least);
        (least, at.filter(|_| least < f64::INFINITY))
    }
}

struct LeastValue<'a, T> {
    costs: &'a [T],
    potentials: &'a [f64],
}

impl<T: Real> Kernel for LeastValue<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> f64 {
        let mut least = [f64::INFINITY; LANES];
        // Rows are padded to whole blocks: there is no remainder.
        let (costs, _) = self.costs.as_chunks::<LANES>();
        let (potentials, _) = self.potentials.as_chunks::<LANES>();
        for (c, g) in costs.iter().zip(potentials) {
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
