//! Gradients with respect to a mixture, from the statistics that the backward pass has summed.

use decalign_core::cholesky;

use crate::covariance::Covariance;
use crate::parameters::{Factors, MixtureParameters};
use crate::statistics::SufficientStatistics;

/// The precision of each component: matrices or diagonals.
pub(crate) fn precisions(mixture: &MixtureParameters, factors: &Factors) -> Vec<f64> {
    let (k, d) = (mixture.components(), mixture.width);
    let product = cholesky::inverse_of_product;
    match mixture.kind {
        Covariance::Full => {
            let inverses = factors.inverse.chunks_exact(d * d);
            inverses.flat_map(|inverse| product(inverse, d)).collect()
        }
        Covariance::Tied => product(&factors.inverse, d).repeat(k),
        _ => factors.inverse.iter().map(|v| v * v).collect(),
    }
}

/// Adds the gradient with respect to a mixture, from the statistics of s about its means.
///
/// ```text
/// dpi = s0 / pi,  dmu = P s1,  dSigma = (P s2 P - s0 P) / 2
/// ```
pub(crate) fn add_mixture_gradient(
    mixture: &MixtureParameters,
    factors: &Factors,
    statistics: &SufficientStatistics,
    to: &mut MixtureParameters,
) {
    let (k, d) = (mixture.components(), mixture.width);
    let precisions = precisions(mixture, factors);
    let size = precisions.len() / k;
    for k in 0..k {
        let (p, s0) = (&precisions[k * size..][..size], statistics.s0[k]);
        let s1 = &statistics.s1[k * d..][..d];
        // A component without weight has no responsibilities, so its gradient is 0.
        if mixture.weights[k] > 0.0 {
            to.weights[k] += s0 / mixture.weights[k];
        }
        let of_means = &mut to.means[k * d..][..d];
        if mixture.kind.is_matrix() {
            let row = |row: &[f64]| row.iter().zip(s1).map(|(p, s)| p * s).sum::<f64>();
            let rows = of_means.iter_mut().zip(p.chunks_exact(d));
            rows.for_each(|(m, p)| *m += row(p));
            let inner = product(&product(p, &statistics.s2[k * size..][..size], d), p, d);
            let at = if mixture.kind == Covariance::Tied {
                0
            } else {
                k * size
            };
            let each = to.covariances[at..].iter_mut().zip(&inner).zip(p);
            each.for_each(|((c, v), p)| *c += 0.5 * (v - s0 * p));
        } else {
            for j in 0..d {
                let p = mixture.variance(k, j).recip();
                of_means[j] += p * s1[j];
                let slope = 0.5 * (statistics.s2[k * d + j] * p * p - s0 * p);
                let at = if mixture.kind == Covariance::Spherical {
                    k
                } else {
                    k * d + j
                };
                to.covariances[at] += slope;
            }
        }
    }
}

fn product(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
    let mut out = vec![0.0; d * d];
    for (row, a) in out.chunks_exact_mut(d).zip(a.chunks_exact(d)) {
        for (a, b) in a.iter().zip(b.chunks_exact(d)) {
            row.iter_mut().zip(b).for_each(|(o, b)| *o += a * b);
        }
    }
    out
}
