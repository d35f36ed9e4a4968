//! Costs that are functions of two points: one file a metric; and the points, in the order that tiles of costs read them.
//!
//! A new metric is a file here, with its [`PointMetric`] and its constructor of [`Geometry`](super::Geometry), and a line in the list at the end of
//! this page. Metrics that are squared Euclidean distances of transformed points (`cosine.rs`, `diagonal_gaussians.rs`) are a
//! constructor alone.

mod city_block;
mod cosine;
mod diagonal_gaussians;
mod euclidean;
mod minkowski;
mod squared_euclidean;

use candle_core::{D, Tensor};
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Real, Result};

/// Rows whose cells are held at once; a multiple of every tile.
pub(crate) const ROWS: usize = 6;

/// The length of rows of `m` costs: whole blocks, so that no loop has a remainder. Cells of the padding cost 0 and have no mass.
pub(crate) fn padded(m: usize) -> usize {
    m.next_multiple_of(LANES)
}

/// A cost of two points, forward and backward, as tiles and as plain tensor operations.
pub(crate) trait PointMetric: Copy {
    /// The largest cost of points whose `width` coordinates differ by at most `side`.
    fn extent(self, side: f64, width: f64) -> f64;

    /// The largest cost of points at this Euclidean distance.
    fn bound(self, distance: f64, width: f64) -> f64;

    /// The costs of differences along the last dimension, in plain tensor operations, with gradient 0 where a difference is 0.
    fn costs(self, difference: &Tensor) -> Result<Tensor>;

    /// Prepares a coordinate of x for [`PointMetric::tile`].
    #[inline(always)]
    fn scaled<T: Real>(x: T, _inverse: T) -> T {
        x
    }

    /// Prepares the potential of a row whose point has this squared norm.
    #[inline(always)]
    fn row_offset<T: Real>(f: T, _norm: T, _inverse: T) -> T {
        f
    }

    /// Prepares the potential of a column whose point has this squared norm.
    #[inline(always)]
    fn column_offset<I: Isa, T: Real>(_isa: I, g: T, _norm: T, _inverse: T) -> T {
        g
    }

    /// `f_r + g_j - inverse C_rj` of R rows and one block of columns, from the prepared coordinates and offsets (f, g).
    fn tile<I: Isa, T: Real, const R: usize>(
        self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        offsets: (&[T; R], &[T; LANES]),
        inverse: T,
    ) -> [[T; LANES]; R];

    /// True if [`PointMetric::slope`] reads the costs.
    fn needs_costs(self) -> bool {
        true
    }

    /// The derivative `dC / dx_k` as a function of `x_k - y_k`, where that is not 0, and of the cost.
    ///
    /// `None` where `dC / dx` is a multiple of `x - y`: then the multiple is taken into the weights, and the gradient is one matrix
    /// product.
    fn slope<T: Real>(
        self,
        weights: &mut [T],
        costs: &[T],
    ) -> Option<impl Fn(T, T) -> T + use<Self, T>>;
}

/// Points about their common mean, in the order that tiles read them.
pub(crate) struct Points<T> {
    pub(super) metric: Metric,
    pub(super) width: usize,
    /// Row after row; rows of `y` up to [`padded`] length.
    x: Vec<T>,
    y: Vec<T>,
    /// Groups of as many rows as a tile has, coordinate after coordinate.
    pub(super) x_groups: Vec<T>,
    /// Blocks of [`LANES`] rows, likewise.
    pub(super) y_blocks: Vec<T>,
    /// Squared norms.
    pub(super) x_norms: Vec<T>,
    pub(super) y_norms: Vec<T>,
}

/// Rows of a tile: as many as keep their sums in the registers of 256-bit vectors.
pub(super) const fn group<T>() -> usize {
    if size_of::<T>() == 4 { 6 } else { 3 }
}

impl<T: Real> Points<T> {
    pub(crate) fn new(mut x: Vec<T>, mut y: Vec<T>, width: usize, metric: Metric) -> Self {
        centre(&mut x, &mut y, width);
        y.resize(padded(y.len() / width) * width, T::zero());
        let norms = |x: &[T]| x.chunks_exact(width).map(simd::sum_squares).collect();
        let (x_norms, y_norms): (Vec<T>, Vec<T>) = (norms(&x), norms(&y));
        Self {
            metric,
            width,
            x_groups: grouped(&x, width, group::<T>()),
            y_blocks: grouped(&y, width, LANES),
            x,
            y,
            x_norms,
            y_norms,
        }
    }

    /// A bound on the costs.
    pub(super) fn bound(&self) -> f64 {
        let norms = [&self.x_norms, &self.y_norms];
        let [x, y] = norms.map(|norms| simd::max(norms).as_f64().sqrt());
        with_metric!(self.metric, metric => metric.bound(x + y, self.width as f64))
    }

    /// `sum_j w_rj dC_rj / dx_r` of the rows from `first` that `out` holds, given their weights, which are overwritten, and costs.
    pub(super) fn backward<M: PointMetric>(
        &self,
        metric: M,
        first: usize,
        (w, costs): (&mut [T], &[T]),
        out: &mut [T],
    ) {
        match metric.slope(w, costs) {
            None => self.sum_differences(first, w, out),
            Some(slope) => self.sum_slopes(first, (w, costs), out, slope),
        }
    }

    /// `sum_j w_rj (x_r - y_j)`.
    fn sum_differences(&self, first: usize, w: &[T], out: &mut [T]) {
        let (d, m) = (self.width, self.y_norms.len());
        let x = &self.x[first * d..][..out.len()];
        let weights = Matrix::new(w, out.len() / d, m);
        matmul(out, d, weights, Matrix::new(&self.y, m, d), Store::Write);
        for ((out, x), w) in out
            .chunks_exact_mut(d)
            .zip(x.chunks_exact(d))
            .zip(w.chunks_exact(m))
        {
            let mass = simd::sum(w);
            out.iter_mut().zip(x).for_each(|(o, x)| *o = mass * *x - *o);
        }
    }

    /// `sum_j w_rj slope(x_r - y_j, C_rj)`, coordinate by coordinate.
    fn sum_slopes(
        &self,
        first: usize,
        (w, costs): (&[T], &[T]),
        out: &mut [T],
        slope: impl Fn(T, T) -> T,
    ) {
        let (d, m) = (self.width, self.y_norms.len());
        let x = &self.x[first * d..][..out.len()];
        let rows = out.chunks_exact_mut(d).zip(x.chunks_exact(d));
        for ((out, x), (w, costs)) in rows.zip(w.chunks_exact(m).zip(costs.chunks_exact(m))) {
            out.fill(T::zero());
            let pairs = self.y.chunks_exact(d).zip(w.iter().zip(costs));
            for (y, (w, c)) in pairs.filter(|(_, (w, _))| **w != T::zero()) {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    let e = *x - *y;
                    if e != T::zero() {
                        *out += *w * slope(e, *c);
                    }
                }
            }
        }
    }
}

/// Moves both sets so that their common mean is 0: distances keep their digits.
fn centre<T: Real>(x: &mut [T], y: &mut [T], width: usize) {
    let rows = ((x.len() + y.len()) / width) as f64;
    let mut mean = vec![0.0; width];
    for row in x.chunks_exact(width).chain(y.chunks_exact(width)) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, v)| *m += v.as_f64() / rows);
    }
    for row in x.chunks_exact_mut(width).chain(y.chunks_exact_mut(width)) {
        row.iter_mut()
            .zip(&mean)
            .for_each(|(v, m)| *v = T::of(v.as_f64() - m));
    }
}

/// Rows in groups of `size`, each coordinate after coordinate; the last groups are filled with
/// zeros up to whole [`ROWS`].
fn grouped<T: Real>(x: &[T], width: usize, size: usize) -> Vec<T> {
    let rows = (x.len() / width).next_multiple_of(if size == LANES { LANES } else { ROWS });
    let mut groups = vec![T::zero(); rows * width];
    for (i, row) in x.chunks_exact(width).enumerate() {
        let group = &mut groups[(i / size) * size * width..][..size * width];
        for (k, v) in row.iter().enumerate() {
            group[k * size + i % size] = *v;
        }
    }
    groups
}

/// The p-norm of differences along the last dimension, with gradient 0 at 0.
fn norm(difference: &Tensor, p: f64) -> Result<Tensor> {
    let sizes = difference.abs()?;
    // The norm of a multiple is the multiple of the norm: powers neither overflow nor all underflow.
    let largest = sizes.detach().max_keepdim(D::Minus1)?;
    let none = largest.eq(0.0)?.to_dtype(largest.dtype())?;
    let powers = sizes
        .broadcast_div(&(&largest + none)?)?
        .powf(p)?
        .sum(D::Minus1)?;
    Ok((root(&powers, 1.0 / p)? * largest.squeeze(D::Minus1)?)?)
}

/// `x^power` of sums that are not negative, with gradient 0 at 0.
fn root(x: &Tensor, power: f64) -> Result<Tensor> {
    let some = x.gt(0.0)?;
    // The root is taken of 1 instead, and then replaced.
    let safe = some.where_cond(x, &x.ones_like()?)?.powf(power)?;
    Ok(some.where_cond(&safe, &x.zeros_like()?)?)
}

/// [`PointMetric::tile`] from the costs of a tile.
#[inline(always)]
fn exponents<I: Isa, T: Real, const R: usize>(
    isa: I,
    mut costs: [[T; LANES]; R],
    (rows, columns): (&[T; R], &[T; LANES]),
    inverse: T,
) -> [[T; LANES]; R] {
    for r in 0..R {
        for i in 0..LANES {
            costs[r][i] = isa.mul_add(-inverse, costs[r][i], rows[r] + columns[i]);
        }
    }
    costs
}

/// Costs that are functions of a sum over coordinate differences.
trait DifferenceSum {
    fn add<I: Isa, T: Real>(isa: I, sum: T, difference: T) -> T;
    fn finish<T: Real>(sum: T) -> T;

    /// [`PointMetric::tile`] of such costs.
    #[inline(always)]
    fn sum_tile<I: Isa, T: Real, const R: usize>(
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        offsets: (&[T; R], &[T; LANES]),
        inverse: T,
    ) -> [[T; LANES]; R] {
        let mut sums = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    sums[r][i] = Self::add(isa, sums[r][i], x[r] - y[i]);
                }
            }
        }
        exponents(isa, sums.map(|row| row.map(Self::finish)), offsets, inverse)
    }
}

/// Lists the metrics: an enum of them, and the macro [`with_metric`]. `$` is passed for the inner macro's own variables.
macro_rules! metrics {
    ($dollar:tt; $($file:ident::$name:ident),+ $(,)?) => {
        /// How the cost of two points is measured.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Metric {
            $($name($file::$name)),+
        }

        /// Evaluates an expression with a name bound to the [`PointMetric`] of a [`Metric`].
        macro_rules! with_metric {
            ($dollar value:expr, $dollar metric:ident => $dollar body:expr) => {
                match $dollar value {
                    $($crate::geometry::Metric::$name($dollar metric) => $dollar body),+
                }
            };
        }
        pub(crate) use with_metric;
    };
}

metrics![
    $;
    squared_euclidean::SquaredEuclidean,
    euclidean::Euclidean,
    city_block::CityBlock,
    minkowski::Minkowski,
];
