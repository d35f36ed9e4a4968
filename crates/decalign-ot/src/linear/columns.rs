//! The columns' half of a sweep.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::marginal::Side;
use super::sweep::kept;

/// Scales the columns by their sums; those whose sum cannot be used are listed in `lost`.
pub(super) struct Columns<'a, T> {
    pub(super) side: &'a Side<T>,
    pub(super) relaxation: T,
    pub(super) sums: &'a [T],
    pub(super) g: &'a mut [T],
    pub(super) lost: &'a mut Vec<usize>,
}

impl<T: Real> Kernel for Columns<'_, T> {
    /// The error of the columns before, and the largest logarithm of a column's sum after.
    type Output = (f64, T);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f64, T) {
        let Self {
            side,
            relaxation,
            sums,
            g,
            lost,
        } = self;
        let (mut error, mut ceiling) = (0.0, T::neg_infinity());
        for (block, g) in g.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let at = block * LANES;
            let (sums, weights) = (&sums[at..][..LANES], &side.weights[at..][..LANES]);
            let mut logs = [T::zero(); LANES];
            for i in 0..LANES {
                logs[i] =
                    simd::ln_value(isa, weights[i] / sums[i]) * T::of(std::f64::consts::LOG2_E);
            }
            for i in 0..LANES {
                if weights[i] == T::zero() {
                    continue;
                }
                error += side.distance(at + i, g[i], sums[i]);
                if !kept(sums[i]) {
                    lost.push(at + i);
                    continue;
                }
                let step = relaxation * side.step(at + i, g[i], logs[i]);
                g[i] += step;
                let after = side.logs[at + i] - logs[i] + step;
                // NaN stays.
                let stays = ceiling >= after || ceiling.is_nan();
                ceiling = if stays { ceiling } else { after };
            }
        }
        (error, ceiling)
    }
}
