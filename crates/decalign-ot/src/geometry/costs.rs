//! Costs as numbers, a few rows at a time.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, LANES};

use super::grid::Grid;
use super::points::{Points, Sink};

/// Rows whose cells are held at once; a multiple of every tile.
pub(crate) const ROWS: usize = 6;

/// The length of rows of `m` costs: whole blocks, so that no loop has a rest. What is behind the end
/// costs 0 and has no mass.
pub(crate) fn padded(m: usize) -> usize {
    m.next_multiple_of(LANES)
}

/// Costs of one problem.
pub(crate) enum Costs<T> {
    Dense { cost: Vec<T>, columns: usize },
    Points(Points<T>),
    Grid(Grid<T>),
}

impl<T: Real> Costs<T> {
    /// Rows of `m` costs.
    pub(crate) fn dense(numbers: &[T], m: usize) -> Self {
        let columns = padded(m);
        let mut cost = vec![T::zero(); numbers.len() / m * columns];
        for (to, from) in cost.chunks_exact_mut(columns).zip(numbers.chunks_exact(m)) {
            to[..m].copy_from_slice(from);
        }
        Self::Dense { cost, columns }
    }

    /// A bound on `max C - min C`.
    pub(crate) fn range(&self) -> f64 {
        match self {
            Self::Dense { cost, .. } => {
                // What is behind the end costs 0, which only widens the bound.
                let least = cost
                    .iter()
                    .fold(T::infinity(), |a, v| if *v < a { *v } else { a });
                simd::max(cost).as_f64() - least.as_f64()
            }
            Self::Points(points) => points.bound(),
            Self::Grid(grid) => grid.range(),
        }
    }

    /// Gives `f_r + g_j - inverse C[first + r, j]` of every row of `f` to a sink, a block at a time.
    ///
    /// `first` is a multiple of [`ROWS`], `g` of padded length. Grids have no rows.
    #[inline(always)]
    fn fill<I: Isa, S: Sink<T>>(
        &self,
        isa: I,
        (first, f): (usize, &[T]),
        g: &[T],
        inverse: T,
        sink: &mut S,
    ) {
        match self {
            Self::Dense { cost, columns } => {
                let rows = cost[first * columns..].chunks_exact(*columns);
                for (r, (cost, f)) in rows.zip(f).enumerate() {
                    let blocks = g
                        .as_chunks::<LANES>()
                        .0
                        .iter()
                        .zip(cost.as_chunks::<LANES>().0);
                    for (block, (g, c)) in blocks.enumerate() {
                        let mut x = [T::zero(); LANES];
                        for i in 0..LANES {
                            x[i] = isa.mul_add(-inverse, c[i], *f + g[i]);
                        }
                        sink.take(isa, r, block, x);
                    }
                }
            }
            Self::Points(points) => points.fill(isa, (first, f), g, inverse, sink),
            Self::Grid(_) => {}
        }
    }

    /// `e[r, j] = 2^(f_r + g_j - inverse C[first + r, j])` of up to [`ROWS`] rows.
    #[inline(always)]
    pub(crate) fn exponentials<I: Isa>(
        &self,
        isa: I,
        rows: (usize, &[T]),
        g: &[T],
        inverse: T,
        cells: &mut Cells<T>,
    ) {
        cells.clear(g.len());
        self.fill(isa, rows, g, inverse, &mut Exponentials(cells));
    }

    /// The costs of up to [`ROWS`] rows.
    #[inline(always)]
    pub(crate) fn rows<I: Isa>(
        &self,
        isa: I,
        first: usize,
        count: usize,
        m: usize,
        cells: &mut Cells<T>,
    ) {
        cells.clear(m);
        let zeros = vec![T::zero(); m];
        self.fill(
            isa,
            (first, &zeros[..count]),
            &zeros,
            -T::one(),
            &mut Copies(cells),
        );
        if let Self::Points(_) = self {
            // Rounding can make the square of a small distance negative.
            for c in cells.values.iter_mut() {
                *c = if *c > T::zero() { *c } else { T::zero() };
            }
        }
    }
}

/// Cells of a few rows.
#[derive(Clone, Default)]
pub(crate) struct Cells<T> {
    /// Row after row, of padded length.
    pub(crate) values: Vec<T>,
    lanes: [[T; LANES]; ROWS],
    columns: usize,
}

impl<T: Real> Cells<T> {
    #[inline(always)]
    fn clear(&mut self, columns: usize) {
        self.columns = columns;
        self.values.resize(columns * ROWS, T::zero());
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

struct Exponentials<'a, T>(&'a mut Cells<T>);

impl<T: Real> Sink<T> for Exponentials<'_, T> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, isa: I, row: usize, block: usize, mut x: [T; LANES]) {
        let cells = &mut *self.0;
        let sums = &mut cells.lanes[row];
        for i in 0..LANES {
            x[i] = simd::exp2_value(isa, x[i]);
        }
        for i in 0..LANES {
            sums[i] += x[i];
        }
        cells.values[row * cells.columns + block * LANES..][..LANES].copy_from_slice(&x);
    }
}

struct Copies<'a, T>(&'a mut Cells<T>);

impl<T: Real> Sink<T> for Copies<'_, T> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, _: I, row: usize, block: usize, x: [T; LANES]) {
        let cells = &mut *self.0;
        cells.values[row * cells.columns + block * LANES..][..LANES].copy_from_slice(&x);
    }
}
