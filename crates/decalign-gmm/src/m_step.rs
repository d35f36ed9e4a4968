//! The M-step: parameters from sufficient statistics, and its backward pass.
//!
//! ```text
//! pi = s0 / N,  mu = m + s1 / s0,  Sigma = s2 / s0 - delta delta^T + r I,  delta = s1 / s0
//! ```
//!
//! with N the sum of sample weights, m the centre of the statistics (the means before the step) and r the
//! regularisation. The tied covariance is the average over components with weights pi, the spherical
//! variance the average over dimensions.

use crate::covariance::Covariance;
use crate::parameters::MixtureParameters;
use crate::statistics::SufficientStatistics;

/// The inputs of an M-step besides the statistics.
pub(crate) struct MStep<'a> {
    pub(crate) before: &'a MixtureParameters,
    /// N.
    pub(crate) total: f64,
    /// r, column by column.
    pub(crate) regularisation: &'a [f64],
    /// A component of less mass is empty: it keeps its mean and covariance, with weight 0.
    pub(crate) least_mass: f64,
    /// `sum w x x^T` (d, d) of all samples, from which the tied covariance follows.
    pub(crate) scatter: Option<&'a [f64]>,
}

impl MStep<'_> {
    pub(crate) fn maximise(&self, statistics: &SufficientStatistics) -> MixtureParameters {
        let (d, k) = (self.before.width, self.before.components());
        let mut after = self.before.clone();
        let mut tied = self.scatter.map_or(vec![0.0; d * d], <[f64]>::to_vec);
        for k in 0..k {
            let s0 = statistics.s0[k];
            let has_mass = s0 >= self.least_mass;
            after.weights[k] = if has_mass { s0 / self.total } else { 0.0 };
            if !has_mass {
                continue;
            }
            let delta: Vec<f64> = statistics.s1[k * d..][..d].iter().map(|v| v / s0).collect();
            let mean = &mut after.means[k * d..][..d];
            mean.iter_mut().zip(&delta).for_each(|(m, v)| *m += v);
            match self.before.kind {
                Covariance::Full => {
                    let matrix = scatter(&statistics.s2[k * d * d..][..d * d], s0, &delta);
                    after.set_matrix(k, &matrix);
                }
                // Within-component scatter is total less between-component scatter.
                Covariance::Tied if self.scatter.is_some() => subtract(&mut tied, s0, mean),
                Covariance::Tied => {
                    let matrix = scatter(&statistics.s2[k * d * d..][..d * d], s0, &delta);
                    tied.iter_mut().zip(matrix).for_each(|(t, v)| *t += s0 * v);
                }
                Covariance::Diagonal => {
                    let raw = raw_variances(&statistics.s2[k * d..][..d], s0, &delta);
                    after.covariances[k * d..][..d].copy_from_slice(&raw);
                }
                Covariance::Spherical => {
                    let raw = raw_variances(&statistics.s2[k * d..][..d], s0, &delta);
                    after.covariances[k] = raw.iter().sum::<f64>() / d as f64;
                }
            }
        }
        if self.before.kind == Covariance::Tied {
            tied.iter_mut().for_each(|v| *v /= self.total);
            after.set_matrix(0, &tied);
        }
        self.regularise(&mut after, |k| statistics.s0[k] >= self.least_mass);
        after
    }

    fn regularise(&self, after: &mut MixtureParameters, has_mass: impl Fn(usize) -> bool) {
        let d = after.width;
        for k in (0..after.matrices()).filter(|k| after.kind == Covariance::Tied || has_mass(*k)) {
            for j in 0..d {
                let at = match after.kind {
                    Covariance::Full => (k * d + j) * d + j,
                    Covariance::Tied => j * d + j,
                    Covariance::Diagonal => k * d + j,
                    Covariance::Spherical if j == 0 => k,
                    Covariance::Spherical => continue,
                };
                after.covariances[at] += self.regularisation[j];
            }
        }
    }

    /// The gradient with respect to responsibilities, given that with respect to the parameters after the step. Empty components
    /// pass their gradient to `to_before`, that with respect to the parameters before the step.
    pub(crate) fn backward(
        &self,
        after: &MixtureParameters,
        gradient: &MixtureParameters,
        to_before: &mut MixtureParameters,
    ) -> ResponsibilityGradient {
        let (d, kind) = (after.width, after.kind);
        let k = after.components();
        let mut out = ResponsibilityGradient::zeros(kind.is_matrix(), k, d);
        for k in 0..k {
            let s0 = after.weights[k] * self.total;
            let mean_gradient = &gradient.means[k * d..][..d];
            if s0 <= 0.0 {
                self.keep(k, gradient, to_before);
                continue;
            }
            let means = after.means[k * d..].iter().zip(&self.before.means[k * d..]);
            let delta: Vec<f64> = means.take(d).map(|(a, b)| a - b).collect();
            // The covariance is `share (s2 / s0 - delta delta^T)`, summed over components if it is tied.
            let (share, covariance_gradient) = self.covariance_gradient(k, gradient, s0);
            let product = apply(&covariance_gradient, &delta);
            let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            out.linear[k * d..][..d]
                .iter_mut()
                .zip(mean_gradient)
                .zip(&product)
                .for_each(|((o, m), t)| *o = (m - 2.0 * share * t) / s0);
            let size = covariance_gradient.len();
            out.square[k * size..][..size]
                .iter_mut()
                .zip(&covariance_gradient)
                .for_each(|(o, s)| *o = share * s / s0);
            let explained = match kind {
                // The share grows with s0 as much as s2 / s0 falls.
                Covariance::Tied => 0.0,
                _ => self.unregularised(after, k, &covariance_gradient) / s0,
            };
            out.constant[k] = gradient.weights[k] / self.total - inner(mean_gradient, &delta) / s0
                + share * inner(&product, &delta) / s0
                - explained;
        }
        out.total = self.total_gradient(after, gradient);
        out
    }

    /// The share of a component in its covariance (1 unless tied), and the gradient with respect to that covariance: a symmetric
    /// matrix, or a diagonal.
    fn covariance_gradient(
        &self,
        k: usize,
        gradient: &MixtureParameters,
        s0: f64,
    ) -> (f64, Vec<f64>) {
        match gradient.kind {
            Covariance::Tied => (s0 / self.total, gradient.matrix(0)),
            Covariance::Spherical => {
                let d = gradient.width;
                (1.0, vec![gradient.covariances[k] / d as f64; d])
            }
            _ => (1.0, gradient.matrix(k)),
        }
    }

    /// `<G, Sigma - r I>` of a component.
    fn unregularised(
        &self,
        after: &MixtureParameters,
        k: usize,
        covariance_gradient: &[f64],
    ) -> f64 {
        let d = after.width;
        let mut matrix = after.matrix(k);
        let step = if matrix.len() == d { 1 } else { d + 1 };
        for (v, regularisation) in matrix.iter_mut().step_by(step).zip(self.regularisation) {
            *v -= regularisation;
        }
        matrix
            .iter()
            .zip(covariance_gradient)
            .map(|(a, b)| a * b)
            .sum()
    }

    /// The gradient with respect to N at fixed sums.
    fn total_gradient(&self, after: &MixtureParameters, gradient: &MixtureParameters) -> f64 {
        let weights = after.weights.iter().zip(&gradient.weights);
        let mut sum: f64 = weights.map(|(w, g)| w * g).sum();
        if after.kind == Covariance::Tied {
            sum += self.unregularised(after, 0, &gradient.matrix(0));
        }
        -sum / self.total
    }

    /// An empty component keeps its parameters.
    fn keep(&self, k: usize, gradient: &MixtureParameters, to_before: &mut MixtureParameters) {
        let d = gradient.width;
        let size = gradient.covariances.len() / gradient.matrices();
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        };
        add(
            &mut to_before.means[k * d..][..d],
            &gradient.means[k * d..][..d],
        );
        if gradient.kind != Covariance::Tied {
            let at = k * size..(k + 1) * size;
            add(
                &mut to_before.covariances[at.clone()],
                &gradient.covariances[at],
            );
        }
    }
}

/// The gradient with respect to a responsibility as a function of the sample, for each component: `constant + linear . e + e^T square e`
/// with `e = x - m`.
pub(crate) struct ResponsibilityGradient {
    pub(crate) constant: Vec<f64>,
    pub(crate) linear: Vec<f64>,
    /// Matrices, or diagonals.
    pub(crate) square: Vec<f64>,
    /// The gradient with respect to N.
    pub(crate) total: f64,
}

impl ResponsibilityGradient {
    pub(crate) fn zeros(matrix: bool, components: usize, width: usize) -> Self {
        let size = if matrix { width * width } else { width };
        Self {
            constant: vec![0.0; components],
            linear: vec![0.0; components * width],
            square: vec![0.0; components * size],
            total: 0.0,
        }
    }
}

/// `S v`, of a matrix or a diagonal.
fn apply(s: &[f64], v: &[f64]) -> Vec<f64> {
    if s.len() == v.len() {
        return s.iter().zip(v).map(|(s, v)| s * v).collect();
    }
    let row = |row: &[f64]| row.iter().zip(v).map(|(s, v)| s * v).sum();
    s.chunks_exact(v.len()).map(row).collect()
}

fn raw_variances(s2: &[f64], s0: f64, delta: &[f64]) -> Vec<f64> {
    let each = s2.iter().zip(delta);
    each.map(|(s, v)| (s / s0 - v * v).max(0.0)).collect()
}

fn scatter(s2: &[f64], s0: f64, delta: &[f64]) -> Vec<f64> {
    let d = delta.len();
    (0..d * d)
        .map(|at| s2[at] / s0 - delta[at / d] * delta[at % d])
        .collect()
}

fn subtract(total: &mut [f64], s0: f64, mean: &[f64]) {
    for (row, a) in total.chunks_exact_mut(mean.len()).zip(mean) {
        row.iter_mut().zip(mean).for_each(|(t, b)| *t -= s0 * a * b);
    }
}
