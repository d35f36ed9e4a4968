//! Minkowski distances.

use candle_core::{D, Tensor};
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Error, Real, Result};

use super::city_block::CityBlock;
use super::euclidean::Euclidean;
use super::points::{By, Cost, Points};
use super::{Metric, PointMetric};
use crate::geometry::Geometry;
use crate::geometry::cells::{Cells, Sink};

impl Geometry {
    /// Minkowski distances `(sum_k |x_ik - y_jk|^p)^(1/p)`, computed in tiles; the gradient at equal
    /// points is 0.
    ///
    /// # Shapes
    /// As [`Geometry::squared_euclidean`].
    ///
    /// # Errors
    /// As [`Geometry::squared_euclidean`], and when `p` is not in [1, 64].
    pub fn lp(x: &Tensor, y: &Tensor, p: f64) -> Result<Self> {
        match p {
            _ if !(1.0..=64.0).contains(&p) => {
                Err(Error::value("p", p, "must be between 1 and 64"))
            }
            2.0 => Self::points(x, y, Metric::Euclidean(Euclidean)),
            1.0 => Self::points(x, y, Metric::CityBlock(CityBlock)),
            _ => Self::points(x, y, Metric::Minkowski(Minkowski(p))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Minkowski(f64);

impl PointMetric for Minkowski {
    fn extent(self, side: f64, width: f64) -> f64 {
        side * width.powf(1.0 / self.0)
    }

    /// The norm for p < 2 is at most `d^(1/p - 1/2)` times the Euclidean one.
    fn bound(self, distance: f64, width: f64) -> f64 {
        distance * width.powf((1.0 / self.0 - 0.5).max(0.0))
    }

    fn costs(self, difference: &Tensor) -> Result<Tensor> {
        norm(difference, self.0)
    }

    #[inline(always)]
    fn fill<I: Isa, T: Real, S: Sink<T>>(
        self,
        isa: I,
        points: &Points<T>,
        rows: (usize, &[T]),
        (g, inverse): (&[T], T),
        cells: &mut Cells<T>,
    ) {
        points.fill_by::<I, _, S>(isa, rows, g, inverse, &By(Power(T::of(self.0))), cells);
    }

    fn backward<T: Real>(
        self,
        points: &Points<T>,
        first: usize,
        (w, costs): (&mut [T], &[T]),
        out: &mut [T],
    ) {
        let power = T::of(self.0 - 1.0);
        let slope = move |e: T, c: T| (e.abs() / c).powf(power) * e.signum();
        points.sum_slopes(first, (w, costs), out, slope);
    }
}

/// The p-norm of differences along the last dimension, with gradient 0 at 0.
pub(super) fn norm(difference: &Tensor, p: f64) -> Result<Tensor> {
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

/// Powers of differences divided by the largest of them: none overflows, and not all underflow.
struct Power<T>(T);

impl<T: Real> Cost<T> for Power<T> {
    #[inline(always)]
    fn costs<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
    ) -> [[T; LANES]; R] {
        let mut largest = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    let e = (x[r] - y[i]).abs();
                    largest[r][i] = if e > largest[r][i] { e } else { largest[r][i] };
                }
            }
        }
        let mut sums = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    let most = largest[r][i];
                    let most = if most > T::zero() { most } else { T::one() };
                    sums[r][i] += power(isa, (x[r] - y[i]).abs() / most, self.0);
                }
            }
        }
        for r in 0..R {
            for i in 0..LANES {
                sums[r][i] = largest[r][i] * power(isa, sums[r][i], T::one() / self.0);
            }
        }
        sums
    }
}

/// `x^p` for x >= 0.
#[inline(always)]
fn power<T: Real, I: Isa>(isa: I, x: T, p: T) -> T {
    simd::exp_value(isa, p * simd::ln_value(isa, x))
}
