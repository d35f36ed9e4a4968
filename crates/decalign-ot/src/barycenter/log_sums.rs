//! The one loop of barycentres on a fixed support: a row's logarithm of a sum of exponentials.

use decalign_core::parallel;
use decalign_core::simd::{self, Isa, Kernel};

/// Rows of one piece of work.
const PIECE: usize = 32;

/// `log sum_j exp(s_j - C_ij / eps)` of every row of costs, shifted by the largest term; -inf where
/// every `s` is.
pub(super) fn log_sums(cost: &[f64], shifts: &[f64], epsilon: f64) -> Vec<f64> {
    let rows = cost.len() / shifts.len();
    let pieces = parallel::map(rows.div_ceil(PIECE), 12 * cost.len(), |piece| {
        let end = (PIECE * (piece + 1)).min(rows);
        simd::dispatch(Rows {
            cost: &cost[piece * PIECE * shifts.len()..end * shifts.len()],
            shifts,
            inverse: 1.0 / epsilon,
        })
    });
    pieces.into_iter().flatten().collect()
}

struct Rows<'a> {
    cost: &'a [f64],
    shifts: &'a [f64],
    inverse: f64,
}

impl Kernel for Rows<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Vec<f64> {
        let Self {
            cost,
            shifts,
            inverse,
        } = self;
        let mut terms = vec![0.0; shifts.len()];
        let rows = cost.chunks_exact(shifts.len()).map(|cost| {
            for ((term, c), s) in terms.iter_mut().zip(cost).zip(shifts) {
                *term = isa.mul_add(-inverse, *c, *s);
            }
            let largest = simd::max(&terms);
            if largest == f64::NEG_INFINITY {
                return largest;
            }
            for term in &mut terms {
                *term = simd::exp_normal_value(isa, *term - largest);
            }
            largest + simd::sum(&terms).ln()
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_definition() {
        let cost: Vec<f64> = (0..70 * 5).map(|i| f64::from(i * 37 % 101) / 9.0).collect();
        let shifts = [0.3, f64::NEG_INFINITY, -2.0, 1.0, 0.0];
        let got = log_sums(&cost, &shifts, 0.7);
        for (row, got) in cost.chunks_exact(5).zip(got) {
            let terms = row.iter().zip(&shifts).map(|(c, s)| (s - c / 0.7).exp());
            assert!((got - terms.sum::<f64>().ln()).abs() < 1e-12);
        }
        // Far below what a double holds without the shift.
        let far = log_sums(&[1e4, 1e4 + 1.0], &[0.0, 0.0], 1.0);
        assert!((far[0] + 1e4 - (1.0 + (-1f64).exp()).ln()).abs() < 1e-9);
        assert_eq!(
            log_sums(&[1.0, 2.0], &[f64::NEG_INFINITY; 2], 1.0)[0],
            f64::NEG_INFINITY
        );
    }
}
