//! City block (Manhattan) distances.

use candle_core::{D, Tensor};
use decalign_core::simd::Isa;
use decalign_core::{Real, Result};

use super::PointMetric;
use super::points::{By, Differences, Points, Summed};
use crate::geometry::cells::{Cells, Sink};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CityBlock;

impl PointMetric for CityBlock {
    fn extent(self, side: f64, width: f64) -> f64 {
        side * width
    }

    fn bound(self, distance: f64, width: f64) -> f64 {
        distance * width.sqrt()
    }

    fn costs(self, difference: &Tensor) -> Result<Tensor> {
        Ok(difference.abs()?.sum(D::Minus1)?)
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
        points.sum_slopes(first, (w, costs), out, |e, _| e.signum());
    }
}

impl<T: Real> Differences<T> for CityBlock {
    #[inline(always)]
    fn add<I: Isa>(_: I, sum: T, difference: T) -> T {
        sum + difference.abs()
    }
    #[inline(always)]
    fn finish(sum: T) -> T {
        sum
    }
}
