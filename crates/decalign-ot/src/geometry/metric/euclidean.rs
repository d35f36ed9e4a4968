//! Euclidean distances.

use candle_core::Tensor;
use decalign_core::simd::Isa;
use decalign_core::{Real, Result};

use super::minkowski::norm;
use super::points::{By, Differences, Points, Summed};
use super::{Metric, PointMetric};
use crate::geometry::Geometry;
use crate::geometry::cells::{Cells, Sink};

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
    fn fill<I: Isa, T: Real, S: Sink<T>>(
        self,
        isa: I,
        points: &Points<T>,
        rows: (usize, &[T]),
        (g, inverse): (&[T], T),
        cells: &mut Cells<T>,
    ) {
        points.fill_by::<I, _, S>(isa, rows, g, inverse, &By(Summed(self)), cells);
    }

    fn backward<T: Real>(
        self,
        points: &Points<T>,
        first: usize,
        (w, costs): (&mut [T], &[T]),
        out: &mut [T],
    ) {
        // The distance falls as fast in every direction: at 0 there is none.
        for (w, c) in w.iter_mut().zip(costs) {
            *w = if *c > T::zero() { *w / *c } else { T::zero() };
        }
        points.sum_differences(first, w, out);
    }
}

impl<T: Real> Differences<T> for Euclidean {
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: T, difference: T) -> T {
        isa.mul_add(difference, difference, sum)
    }
    #[inline(always)]
    fn finish(sum: T) -> T {
        sum.sqrt()
    }
}
