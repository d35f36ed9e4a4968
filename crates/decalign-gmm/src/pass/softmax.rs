//! Responsibilities of a chunk: lanes are samples.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use crate::data::ROWS;

/// Turns logarithms (base 2) of a chunk into responsibilities times sample weights, in place.
pub(crate) struct Softmax<'a, T> {
    pub(crate) components: usize,
    pub(crate) weights: &'a [T],
    pub(crate) cells: &'a mut [T],
    /// `log2 sum_k 2^cell` a sample.
    pub(crate) logs: &'a mut [T],
}

impl<T: Real> Kernel for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let cells = self.cells[..self.components * ROWS]
            .as_chunks_mut::<LANES>()
            .0;
        let per_row = ROWS / LANES;
        for block in 0..per_row {
            let mut largest = [T::neg_infinity(); LANES];
            for cell in cells.iter().skip(block).step_by(per_row) {
                for i in 0..LANES {
                    largest[i] = if cell[i] > largest[i] {
                        cell[i]
                    } else {
                        largest[i]
                    };
                }
            }
            let mut sum = [T::zero(); LANES];
            for cell in cells.iter_mut().skip(block).step_by(per_row) {
                let mut x = *cell;
                for i in 0..LANES {
                    x[i] = simd::exp2_value(isa, x[i] - largest[i]);
                }
                for i in 0..LANES {
                    sum[i] += x[i];
                }
                *cell = x;
            }
            let at = block * LANES..(block + 1) * LANES;
            let mut factor = [T::zero(); LANES];
            let (weights, logs) = (&self.weights[at.clone()], &mut self.logs[at]);
            for i in 0..LANES {
                factor[i] = weights[i] / sum[i];
                let log = simd::ln_value(isa, sum[i]) * T::of(std::f64::consts::LOG2_E);
                logs[i] = largest[i] + log;
            }
            for cell in cells.iter_mut().skip(block).step_by(per_row) {
                for i in 0..LANES {
                    cell[i] *= factor[i];
                }
            }
        }
    }
}
