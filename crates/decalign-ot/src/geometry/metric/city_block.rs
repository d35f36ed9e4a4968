//! City block (Manhattan) distances.

use candle_core::{D, Tensor};
use decalign_core::simd::{Isa, LANES};
use decalign_core::{Real, Result};

use super::{DifferenceSum, PointMetric};

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

    fn slope<T: Real>(self, _: &mut [T], _: &[T]) -> Option<impl Fn(T, T) -> T + use<T>> {
        Some(|difference: T, _| difference.signum())
    }
}

impl DifferenceSum for CityBlock {
    #[inline(always)]
    fn add<I: Isa, T: Real>(_: I, sum: T, difference: T) -> T {
        sum + difference.abs()
    }

    #[inline(always)]
    fn finish<T: Real>(sum: T) -> T {
        sum
    }
}
