//! Costs as numbers: cells of a plan a few rows at a time, and the gradients of their weighted sums.

use std::marker::PhantomData;

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd::{self, Aligned, Isa, Kernel, LANES};
use decalign_core::{Real, parallel};

use super::grid::Grid;
use super::metric::{PointMetric, Points, ROWS, group, padded, with_metric};

/// Rows of one piece of parallel work.
pub(crate) const PIECE: usize = 8 * ROWS;

/// Cells of a few rows.
#[derive(Default)]
pub(crate) struct Cells<T> {
    /// Row after row, of padded length.
    pub(crate) values: Aligned<T>,
    /// Sums of every row, in lanes.
    lanes: [[T; LANES]; ROWS],
    columns: usize,
}

impl<T: Real> Cells<T> {
    #[inline(always)]
    fn clear(&mut self, columns: usize) {
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

/// Costs of one problem.
pub(crate) enum Costs<T> {
    Dense { cost: Aligned<T>, columns: usize },
    Points(Points<T>),
    Grid(Grid<T>),
}

impl<T: Real> Costs<T> {
    /// A bound on `max C - min C`.
    pub(crate) fn range(&self) -> f64 {
        match self {
            Self::Dense { cost, .. } => {
                // The padding costs 0, which only widens the bound.
                let least = cost
                    .iter()
                    .fold(T::infinity(), |a, v| if *v < a { *v } else { a });
                simd::max(cost).as_f64() - least.as_f64()
            }
            Self::Points(points) => points.bound(),
            Self::Grid(grid) => grid.range(),
        }
    }

    /// Turns `f_r + g_j - inverse C[first + r, j]` of every row of `f` into cells, a block at a time.
    ///
    /// `first` is a multiple of [`ROWS`], `g` of padded length. Grids have no rows.
    #[inline(always)]
    fn fill<I: Isa, S: Sink<T>>(
        &self,
        isa: I,
        (first, f): (usize, &[T]),
        g: &[T],
        inverse: T,
        cells: &mut Cells<T>,
    ) {
        match self {
            Self::Dense { cost, columns } => {
                let rows = cost[first * columns..].chunks_exact(*columns).zip(f);
                let outs = cells.values.chunks_exact_mut(g.len()).zip(&mut cells.lanes);
                for ((cost, f), (out, sums)) in rows.zip(outs) {
                    let given = g
                        .as_chunks::<LANES>()
                        .0
                        .iter()
                        .zip(cost.as_chunks::<LANES>().0);
                    let mut lanes = [T::zero(); LANES];
                    for (out, (g, c)) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(given) {
                        let mut x = [T::zero(); LANES];
                        for i in 0..LANES {
                            x[i] = isa.mul_add(-inverse, c[i], *f + g[i]);
                        }
                        S::take(isa, x, out, &mut lanes);
                    }
                    *sums = lanes;
                }
            }
            Self::Points(points) => {
                let rows = (first, f);
                with_metric!(points.metric, metric => match group::<T>() {
                    // Two copies of one loop, each with the tile that suits its type.
                    6 => tiles::<I, T, _, S, 6>(isa, (points, metric), rows, (g, inverse), cells),
                    _ => tiles::<I, T, _, S, 3>(isa, (points, metric), rows, (g, inverse), cells),
                });
            }
            Self::Grid(_) => {}
        }
    }

    /// `e[r, j] = 2^(f_r + g_j - inverse C[first + r, j])` of up to [`ROWS`] rows.
    pub(crate) fn exponentials(
        &self,
        rows: (usize, &[T]),
        g: &[T],
        inverse: T,
        cells: &mut Cells<T>,
    ) {
        self.cells::<Exponentials>(rows, g, inverse, cells);
    }

    /// [`Costs::exponentials`] of exponents that are known to be numbers below the largest power of
    /// two.
    pub(crate) fn bounded_exponentials(
        &self,
        rows: (usize, &[T]),
        g: &[T],
        inverse: T,
        cells: &mut Cells<T>,
    ) {
        self.cells::<BoundedExponentials>(rows, g, inverse, cells);
    }

    /// Compiled once for every instruction set, however many loops use it.
    fn cells<S: Sink<T>>(&self, rows: (usize, &[T]), g: &[T], inverse: T, cells: &mut Cells<T>) {
        cells.clear(g.len());
        simd::dispatch(Fill {
            costs: self,
            rows,
            g,
            inverse,
            cells,
            sink: PhantomData::<S>,
        });
    }

    /// The costs of up to [`ROWS`] rows.
    pub(crate) fn rows(&self, first: usize, count: usize, m: usize, cells: &mut Cells<T>) {
        let zeros = vec![T::zero(); m];
        let rows = (first, &[T::zero(); ROWS][..count]);
        self.cells::<Copies>(rows, &zeros, -T::one(), cells);
        if let Self::Points(_) = self {
            // Rounding can make the square of a small distance negative.
            for c in cells.values.iter_mut() {
                *c = if *c > T::zero() { *c } else { T::zero() };
            }
        }
    }
}

/// [`Costs::fill`] of points, in tiles of R rows by one block of columns: the costs stay in registers.
#[inline(always)]
fn tiles<I: Isa, T: Real, M: PointMetric, S: Sink<T>, const R: usize>(
    isa: I,
    (points, metric): (&Points<T>, M),
    (first, f): (usize, &[T]),
    (g, inverse): (&[T], T),
    cells: &mut Cells<T>,
) {
    debug_assert!(first % ROWS == 0 && ROWS.is_multiple_of(R));
    let d = points.width;
    let mut x = vec![[T::zero(); R]; d];
    for (part, f) in f.chunks(R).enumerate() {
        let start = first + part * R;
        let group = &points.x_groups[start * d..][..R * d];
        for (to, from) in x.iter_mut().zip(group.as_chunks::<R>().0) {
            *to = from.map(|v| M::scaled(v, inverse));
        }
        let mut offsets = [T::neg_infinity(); R];
        for (r, (offset, f)) in offsets.iter_mut().zip(f).enumerate() {
            *offset = M::row_offset(*f, points.x_norms[start + r], inverse);
        }
        let mut outs = cells.values.chunks_exact_mut(g.len()).skip(part * R);
        let outs: [&mut [[T; LANES]]; R] = std::array::from_fn(|_| match outs.next() {
            Some(out) => out.as_chunks_mut::<LANES>().0,
            None => &mut [],
        });
        let mut sums = [[T::zero(); LANES]; R];
        let given = g
            .as_chunks::<LANES>()
            .0
            .iter()
            .zip(points.y_norms.as_chunks::<LANES>().0);
        let blocks = points.y_blocks.chunks_exact(d * LANES).zip(given);
        for (block, (y, (g, norms))) in blocks.enumerate() {
            let mut shifted = *g;
            for i in 0..LANES {
                shifted[i] = M::column_offset(isa, g[i], norms[i], inverse);
            }
            let y = y.as_chunks::<LANES>().0;
            let tile = metric.tile(isa, &x, y, (&offsets, &shifted), inverse);
            for r in 0..R {
                S::take(isa, tile[r], &mut outs[r][block], &mut sums[r]);
            }
        }
        cells.lanes[part * R..][..R].copy_from_slice(&sums);
    }
}

/// [`Costs::fill`] as a kernel.
struct Fill<'a, T, S> {
    costs: &'a Costs<T>,
    rows: (usize, &'a [T]),
    g: &'a [T],
    inverse: T,
    cells: &'a mut Cells<T>,
    sink: PhantomData<S>,
}

impl<T: Real, S: Sink<T>> Kernel for Fill<'_, T, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        self.costs
            .fill::<I, S>(isa, self.rows, self.g, self.inverse, self.cells);
    }
}

/// Writes the exponents of a block as cells.
pub(crate) trait Sink<T: Real> {
    fn take<I: Isa>(isa: I, exponents: [T; LANES], out: &mut [T; LANES], sums: &mut [T; LANES]);
}

/// Two to the power of each, summed in the same loop.
struct Exponentials;

impl<T: Real> Sink<T> for Exponentials {
    #[inline(always)]
    fn take<I: Isa>(isa: I, mut x: [T; LANES], out: &mut [T; LANES], sums: &mut [T; LANES]) {
        for x in &mut x {
            *x = simd::exp2_value(isa, *x);
        }
        for i in 0..LANES {
            sums[i] += x[i];
        }
        *out = x;
    }
}

/// [`Exponentials`] of numbers below the largest power of two.
struct BoundedExponentials;

impl<T: Real> Sink<T> for BoundedExponentials {
    #[inline(always)]
    fn take<I: Isa>(isa: I, mut x: [T; LANES], out: &mut [T; LANES], sums: &mut [T; LANES]) {
        for x in &mut x {
            *x = simd::exp2_number_value(isa, *x);
        }
        for i in 0..LANES {
            sums[i] += x[i];
        }
        *out = x;
    }
}

/// The exponents themselves.
struct Copies;

impl<T: Real> Sink<T> for Copies {
    #[inline(always)]
    fn take<I: Isa>(_: I, x: [T; LANES], out: &mut [T; LANES], _: &mut [T; LANES]) {
        *out = x;
    }
}

/// `W_ij = 2^(f_i + g_j - inverse C_ij) (L R^T)_ij`: a plan times a matrix of low rank k.
///
/// This covers the gradients of values (L = R = 1), of applied plans (L the outer gradient, R the vectors) and of potentials.
#[derive(Clone)]
pub(crate) struct Weights<T> {
    f: Vec<T>,
    g: Vec<T>,
    inverse: T,
    /// (n, k).
    left: Vec<T>,
    /// (m, k).
    right: Vec<T>,
    k: usize,
}

impl<T: Real> Weights<T> {
    /// From f, g, L and R at an epsilon.
    pub(crate) fn new(parts: [&[f64]; 4], epsilon: f64, k: usize) -> Self {
        let [f, g, left, right] = parts.map(|x| x.iter().map(|v| T::of(*v)).collect());
        Self {
            f,
            g,
            inverse: T::of(std::f64::consts::LOG2_E / epsilon),
            left,
            right,
            k,
        }
    }

    /// f, g, L and R; the factor of the costs and the rank k.
    pub(super) fn parts(&self) -> ([&[T]; 4], (T, usize)) {
        let parts = [&self.f, &self.g, &self.left, &self.right];
        (parts.map(Vec::as_slice), (self.inverse, self.k))
    }

    pub(super) fn transpose(&self) -> Self {
        let Self {
            f, g, left, right, ..
        } = self.clone();
        Self {
            f: g,
            g: f,
            left: right,
            right: left,
            ..*self
        }
    }

    /// Pads the columns to whole blocks, which weigh nothing.
    pub(super) fn pad(mut self) -> Self {
        let m = padded(self.g.len());
        self.g.resize(m, T::neg_infinity());
        self.right.resize(m * self.k, T::zero());
        self
    }
}

impl<T: Real> Costs<T> {
    /// The gradient of `sum_ij W_ij C_ij` with respect to the rows, for m columns: of points (n, d), of stored costs the weights
    /// (n, m). Grids have no rows.
    pub(super) fn backward(&self, weights: &Weights<T>, m: usize) -> Vec<f64> {
        let n = weights.f.len();
        let width = match self {
            Self::Points(points) => points.width,
            _ => m,
        };
        let mut out = vec![T::zero(); n * width];
        let work = n * weights.g.len() * (8 + 2 * weights.k + 2 * width);
        parallel::for_each_chunk(&mut out, PIECE * width, work, |piece, out| {
            let mut workspace = Workspace {
                factors: vec![T::zero(); ROWS * weights.g.len()],
                ..Workspace::default()
            };
            for (block, out) in out.chunks_mut(ROWS * width).enumerate() {
                workspace.backward(self, weights, piece * PIECE + block * ROWS, (out, width));
            }
        });
        out.into_iter().map(|v| v.as_f64()).collect()
    }
}

/// Buffers for the rows of a block.
#[derive(Default)]
struct Workspace<T> {
    cells: Cells<T>,
    raw: Cells<T>,
    factors: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// The rows from `first` that `out` has room for.
    fn backward(
        &mut self,
        costs: &Costs<T>,
        weights: &Weights<T>,
        first: usize,
        (out, width): (&mut [T], usize),
    ) {
        let (m, k, count) = (weights.g.len(), weights.k, out.len() / width);
        let f = &weights.f[first..][..count];
        costs.exponentials((first, f), &weights.g, weights.inverse, &mut self.cells);
        let left = Matrix::new(&weights.left[first * k..], count, k);
        matmul(
            &mut self.factors,
            m,
            left,
            Matrix::new(&weights.right, m, k).t(),
            Store::Write,
        );
        let w = &mut self.cells.values[..count * m];
        w.iter_mut().zip(&self.factors).for_each(|(w, s)| *w *= *s);
        match costs {
            Costs::Points(points) => {
                with_metric!(points.metric, metric => {
                    if metric.needs_costs() {
                        costs.rows(first, count, m, &mut self.raw);
                    }
                    points.backward(metric, first, (w, &self.raw.values), out);
                });
            }
            _ => {
                for (out, w) in out.chunks_exact_mut(width).zip(w.chunks_exact(m)) {
                    out.copy_from_slice(&w[..width]);
                }
            }
        }
    }
}
