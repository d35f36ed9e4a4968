//! Minkowski distances.

use candle_core::Tensor;
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Error, Real, Result};

use super::city_block::CityBlock;
use super::euclidean::Euclidean;
use super::{Metric, PointMetric, exponents, norm};
use crate::geometry::Geometry;

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
    fn tile<I: Isa, T: Real, const R: usize>(
        self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        offsets: (&[T; R], &[T; LANES]),
        inverse: T,
    ) -> [[T; LANES]; R] {
        exponents(isa, power_sums(isa, x, y, T::of(self.0)), offsets, inverse)
    }

    fn slope<T: Real>(self, _: &mut [T], _: &[T]) -> Option<impl Fn(T, T) -> T + use<T>> {
        let power = T::of(self.0 - 1.0);
        Some(move |e: T, cost: T| (e.abs() / cost).powf(power) * e.signum())
    }
}

/// Costs of a tile. Differences are divided by the largest of them before they are raised to p: none overflows, and not all underflow.
#[inline(always)]
fn power_sums<I: Isa, T: Real, const R: usize>(
    isa: I,
    x: &[[T; R]],
    y: &[[T; LANES]],
    p: T,
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
                sums[r][i] += power(isa, (x[r] - y[i]).abs() / most, p);
            }
        }
    }
    for r in 0..R {
        for i in 0..LANES {
            sums[r][i] = largest[r][i] * power(isa, sums[r][i], T::one() / p);
        }
    }
    sums
}

/// `x^p` for x >= 0.
#[inline(always)]
fn power<T: Real, I: Isa>(isa: I, x: T, p: T) -> T {
    simd::exp_value(isa, p * simd::ln_value(isa, x))
}
