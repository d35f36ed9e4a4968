//! Squared Euclidean distances.

use candle_core::{D, Tensor};
use decalign_core::simd::{Isa, LANES};
use decalign_core::{Real, Result};

use super::{Metric, PointMetric};
use crate::geometry::Geometry;

impl Geometry {
    /// Squared Euclidean distances `|x_i - y_j|^2`, computed in tiles and never stored.
    ///
    /// # Shapes
    /// `x` (n, d) and `y` (m, d), or (B, n, d) and (B, m, d), both f32 or both f64, finite.
    ///
    /// # Errors
    /// When a shape or dtype does not fit or an entry is NaN or infinite.
    pub fn squared_euclidean(x: &Tensor, y: &Tensor) -> Result<Self> {
        Self::points(x, y, Metric::SquaredEuclidean(SquaredEuclidean))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SquaredEuclidean;

/// Tiles compute `|x|^2 + |y|^2 - 2 x . y`: the norms go into the offsets and the factor into x, so that one chain of fused products
/// is all there is to do.
impl PointMetric for SquaredEuclidean {
    fn extent(self, side: f64, width: f64) -> f64 {
        side * side * width
    }

    fn bound(self, distance: f64, _: f64) -> f64 {
        distance * distance
    }

    fn costs(self, difference: &Tensor) -> Result<Tensor> {
        Ok(difference.sqr()?.sum(D::Minus1)?)
    }

    #[inline(always)]
    fn scaled<T: Real>(x: T, inverse: T) -> T {
        T::of(2.0) * inverse * x
    }

    #[inline(always)]
    fn row_offset<T: Real>(f: T, norm: T, inverse: T) -> T {
        f - inverse * norm
    }

    #[inline(always)]
    fn column_offset<I: Isa, T: Real>(isa: I, g: T, norm: T, inverse: T) -> T {
        isa.mul_add(-inverse, norm, g)
    }

    #[inline(always)]
    fn tile<I: Isa, T: Real, const R: usize>(
        self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        (rows, columns): (&[T; R], &[T; LANES]),
        _: T,
    ) -> [[T; LANES]; R] {
        let mut sums = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    sums[r][i] = isa.mul_add(x[r], y[i], sums[r][i]);
                }
            }
        }
        for r in 0..R {
            for i in 0..LANES {
                sums[r][i] += rows[r] + columns[i];
            }
        }
        sums
    }

    fn needs_costs(self) -> bool {
        false
    }

    fn slope<T: Real>(self, w: &mut [T], _: &[T]) -> Option<impl Fn(T, T) -> T + use<T>> {
        w.iter_mut().for_each(|w| *w = T::of(2.0) * *w);
        None::<fn(T, T) -> T>
    }
}
