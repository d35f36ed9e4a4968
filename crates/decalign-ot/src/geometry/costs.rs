//! Costs as numbers, a few rows at a time.

use std::marker::PhantomData;

use candle_core::Tensor;
use decalign_core::simd::{self, Aligned, Isa, Kernel, LANES};
use decalign_core::{Elements, Real, Result, with_real};

use super::cells::{Cells, ROWS, Sink, padded};
use super::grid::Grid;
use super::metric::Points;

/// Costs of one problem.
pub(crate) enum Costs<T> {
    Dense { cost: Aligned<T>, columns: usize },
    Points(Points<T>),
    Grid(Grid<T>),
}

impl<T: Real> Costs<T> {
    /// Rows of `m` costs.
    pub(crate) fn dense(x: &Tensor, m: usize) -> Result<Self> {
        let x = x.to_device(&candle_core::Device::Cpu)?;
        let columns = padded(m);
        let mut cost = Aligned::zeros(x.elem_count() / m * columns);
        with_real!("cost", x, S => {
            let rows = cost.chunks_exact_mut(columns);
            for (to, from) in rows.zip(Elements::<S>::new(&x)?.chunks_exact(m)) {
                to.iter_mut().zip(from).for_each(|(to, v)| *to = T::of(v.as_f64()));
            }
            Ok(Self::Dense { cost, columns })
        })
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

    /// Turns `f_r + g_j - inverse C[first + r, j]` of every row of `f` into cells, a block at a time.
    ///
    /// `first` is a multiple of [`ROWS`], `g` of padded length. Grids have no rows.
    #[inline(always)]
    pub(super) fn fill<I: Isa, S: Sink<T>>(
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
                let metric = points.metric;
                metric.fill::<I, T, S>(isa, points, (first, f), (g, inverse), cells);
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

/// Two to their power, summed on the way.
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

/// Themselves.
struct Copies;

impl<T: Real> Sink<T> for Copies {
    #[inline(always)]
    fn take<I: Isa>(_: I, x: [T; LANES], out: &mut [T; LANES], _: &mut [T; LANES]) {
        *out = x;
    }
}
