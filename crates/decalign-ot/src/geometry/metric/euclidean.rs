//! Euclidean distances.

use candle_core::Tensor;
use decalign_core::simd::{Isa, LANES};
use decalign_core::{Real, Result};

use super::{DifferenceSum, Metric, PointMetric, norm};
use crate::geometry::Geometry;

impl Geometry {
    /// Euclidean distances `|x_i - y_j|`, computed in tiles; the gradient at equal points is 0.
    ///
    /// # Shapes
    /// As [`Geometry::squared_euclidean`].
    ///
    /// # Errors
    /// As [`Geometry::squared_euclidean`].
    pub fn euclidean(x: &Tensor, y: &Tensor) -> Result<Self> {
        Self::points(x, y, Metric::Euclidean(Euclidean))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Euclidean;

impl PointMetric for Euclidean {
    fn extent(self, side: f64, width: f64) -> f64 {
        side * width.sqrt()
    }

    fn bound(self, distance: f64, _: f64) -> f64 {
        distance
    }

    fn costs(self, difference: &Tensor) -> Result<Tensor> {
        norm(difference, 2.0)
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
        Self::sum_tile(isa, x, y, offsets, inverse)
    }

    fn slope<T: Real>(self, w: &mut [T], costs: &[T]) -> Option<impl Fn(T, T) -> T + use<T>> {
        // The distance has no gradient at 0.
        for (w, c) in w.iter_mut().zip(costs) {
            *w = if *c > T::zero() { *w / *c } else { T::zero() };
        }
        None::<fn(T, T) -> T>
    }
}

impl DifferenceSum for Euclidean {
    #[inline(always)]
    fn add<I: Isa, T: Real>(isa: I, sum: T, difference: T) -> T {
        isa.mul_add(difference, difference, sum)
    }

    #[inline(always)]
    fn finish<T: Real>(sum: T) -> T {
        sum.sqrt()
    }
}
