//! Responsibilities of a chunk: lanes are samples.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use crate::row_chunk::BLOCKS;

/// Turns log-densities (base 2) of a chunk into responsibilities times sample weights, in place.
pub(crate) struct Responsibilities<'a, T> {
    pub(crate) components: usize,
    /// Blocks that hold a sample.
    pub(crate) blocks: usize,
    pub(crate) weights: &'a [T],
    pub(crate) cells: &'a mut [T],
    /// `log2 sum_k 2^cell` of each sample.
    pub(crate) logs: &'a mut [T],
}

impl<T: Real> Kernel for Responsibilities<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let size = self.cells.len() / BLOCKS;
        let weights = self.weights.as_chunks::<LANES>().0;
        let logs = self.logs.as_chunks_mut::<LANES>().0;
        let blocks = self
            .cells
            .chunks_exact_mut(size)
            .zip(weights.iter().zip(logs));
        for (cells, (weights, logs)) in blocks.take(self.blocks) {
            let cells = &mut cells.as_chunks_mut::<LANES>().0[..self.components];
            let (largest, sum) = exponentials::<T, I, true>(isa, cells);
            let mut factor = [T::zero(); LANES];
            for i in 0..LANES {
                factor[i] = weights[i] / sum[i];
            }
            for i in 0..LANES {
                let log = simd::ln_value(isa, sum[i]) * T::of(std::f64::consts::LOG2_E);
                logs[i] = largest[i] + log;
            }
            for cell in cells.iter_mut() {
                let mut x = *cell;
                for i in 0..LANES {
                    x[i] *= factor[i];
                }
                *cell = x;
            }
        }
    }
}

/// Replaces logarithms (base 2 if `BASE_2`, else e) of all components by the exponentials of their differences from the largest;
/// returns the largest logarithms and the sums. Logarithms are finite, so differences are not NaN, and none is above 0.
#[inline(always)]
pub(crate) fn exponentials<T: Real, I: Isa, const BASE_2: bool>(
    isa: I,
    cells: &mut [[T; LANES]],
) -> ([T; LANES], [T; LANES]) {
    let mut largest = [T::neg_infinity(); LANES];
    for cell in cells.iter() {
        for i in 0..LANES {
            largest[i] = if cell[i] > largest[i] {
                cell[i]
            } else {
                largest[i]
            };
        }
    }
    let mut sum = [T::zero(); LANES];
    for cell in cells.iter_mut() {
        let mut x = *cell;
        for i in 0..LANES {
            x[i] = match BASE_2 {
                true => simd::exp2_number_value(isa, x[i] - largest[i]),
                false => simd::exp_value(isa, x[i] - largest[i]),
            };
        }
        for i in 0..LANES {
            sum[i] += x[i];
        }
        *cell = x;
    }
    (largest, sum)
}
