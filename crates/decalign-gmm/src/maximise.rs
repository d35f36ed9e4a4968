//! The maximisation: moments into parameters, and gradients back.
//!
//! ```text
//! pi = s0 / N,  mu = m + s1 / s0,  Sigma = s2 / s0 - delta delta^T + r I,  delta = s1 / s0
//! ```
//!
//! with N the sum of sample weights, m the centre of the moments (the means before the step) and r the
//! regularisation. The tied covariance is the average over components with weights pi, the spherical
//! variance the average over dimensions.

use crate::covariance::Covariance;
use crate::parameters::{Moments, Parameters};

/// What a step needs besides moments.
pub(crate) struct Step<'a> {
    pub(crate) before: &'a Parameters,
    /// N.
    pub(crate) total: f64,
    /// r, column by column.
    pub(crate) floor: &'a [f64],
    /// A component of less mass keeps its mean and covariance, with weight 0.
    pub(crate) least: f64,
    /// `sum w x x^T` (d, d): second moments of all data, where the tied covariance comes from.
    pub(crate) scatter: Option<&'a [f64]>,
}

impl Step<'_> {
    pub(crate) fn maximise(&self, moments: &Moments) -> Parameters {
        let (d, k) = (self.before.width, self.before.components());
        let mut after = self.before.clone();
        let mut tied = self.scatter.map_or(vec![0.0; d * d], <[f64]>::to_vec);
        for k in 0..k {
            let s0 = moments.s0[k];
            let alive = s0 >= self.least;
            after.weights[k] = if alive { s0 / self.total } else { 0.0 };
            if !alive {
                continue;
            }
            let delta: Vec<f64> = moments.s1[k * d..][..d].iter().map(|v| v / s0).collect();
            let mean = &mut after.means[k * d..][..d];
            mean.iter_mut().zip(&delta).for_each(|(m, v)| *m += v);
            match self.before.kind {
                Covariance::Full => {
                    let matrix = scatter(&moments.s2[k * d * d..][..d * d], s0, &delta);
                    after.set_matrix(k, &matrix);
                }
                // Within is all less between.
                Covariance::Tied if self.scatter.is_some() => subtract(&mut tied, s0, mean),
                Covariance::Tied => {
                    let matrix = scatter(&moments.s2[k * d * d..][..d * d], s0, &delta);
                    tied.iter_mut().zip(matrix).for_each(|(t, v)| *t += s0 * v);
                }
                Covariance::Diagonal => {
                    let raw = raw_variances(&moments.s2[k * d..][..d], s0, &delta);
                    after.covariances[k * d..][..d].copy_from_slice(&raw);
                }
                Covariance::Spherical => {
                    let raw = raw_variances(&moments.s2[k * d..][..d], s0, &delta);
                    after.covariances[k] = raw.iter().sum::<f64>() / d as f64;
                }
            }
        }
        if self.before.kind == Covariance::Tied {
            tied.iter_mut().for_each(|v| *v /= self.total);
            after.set_matrix(0, &tied);
        }
        self.regularise(&mut after, |k| moments.s0[k] >= self.least);
        after
    }

    fn regularise(&self, after: &mut Parameters, alive: impl Fn(usize) -> bool) {
        let d = after.width;
        for k in (0..after.matrices()).filter(|k| after.kind == Covariance::Tied || alive(*k)) {
            for j in 0..d {
                let at = match after.kind {
                    Covariance::Full => (k * d + j) * d + j,
                    Covariance::Tied => j * d + j,
                    Covariance::Diagonal => k * d + j,
                    Covariance::Spherical if j == 0 => k,
                    Covariance::Spherical => continue,
                };
                after.covariances[at] += self.floor[j];
            }
        }
    }

    /// Gradients with respect to the moments, as a quadratic function of samples a component, given those
    /// with respect to the parameters after the step; adds what goes straight to the parameters before.
    pub(crate) fn back(
        &self,
        after: &Parameters,
        gradient: &Parameters,
        to_before: &mut Parameters,
    ) -> Quadratics {
        let (d, kind) = (after.width, after.kind);
        let k = after.components();
        let mut out = Quadratics::zeros(kind.is_matrix(), k, d);
        for k in 0..k {
            let s0 = after.weights[k] * self.total;
            let of_mean = &gradient.means[k * d..][..d];
            if s0 <= 0.0 {
                self.keep(k, gradient, to_before);
                continue;
            }
            let means = after.means[k * d..].iter().zip(&self.before.means[k * d..]);
            let delta: Vec<f64> = means.take(d).map(|(a, b)| a - b).collect();
            // Covariances are `share (s2 / s0 - delta delta^T)`, summed where they are shared.
            let (share, slope) = self.slope(k, gradient, s0);
            let turned = apply(&slope, &delta);
            let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            out.linear[k * d..][..d]
                .iter_mut()
                .zip(of_mean)
                .zip(&turned)
                .for_each(|((o, m), t)| *o = (m - 2.0 * share * t) / s0);
            let size = slope.len();
            out.square[k * size..][..size]
                .iter_mut()
                .zip(&slope)
                .for_each(|(o, s)| *o = share * s / s0);
            let explained = match kind {
                // The share grows with s0 as the average falls.
                Covariance::Tied => 0.0,
                _ => self.unregularised(after, k, &slope) / s0,
            };
            out.constant[k] = gradient.weights[k] / self.total - inner(of_mean, &delta) / s0
                + share * inner(&turned, &delta) / s0
                - explained;
        }
        out.of_total = self.of_total(after, gradient);
        out
    }

    /// How the average that a component's covariance enters is weighted, and the gradient with respect to
    /// it: a symmetric matrix, or a diagonal.
    fn slope(&self, k: usize, gradient: &Parameters, s0: f64) -> (f64, Vec<f64>) {
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
    fn unregularised(&self, after: &Parameters, k: usize, slope: &[f64]) -> f64 {
        let d = after.width;
        let mut matrix = after.matrix(k);
        let step = if matrix.len() == d { 1 } else { d + 1 };
        for (v, floor) in matrix.iter_mut().step_by(step).zip(self.floor) {
            *v -= floor;
        }
        matrix.iter().zip(slope).map(|(a, b)| a * b).sum()
    }

    /// The gradient with respect to N at fixed sums.
    fn of_total(&self, after: &Parameters, gradient: &Parameters) -> f64 {
        let weights = after.weights.iter().zip(&gradient.weights);
        let mut sum: f64 = weights.map(|(w, g)| w * g).sum();
        if after.kind == Covariance::Tied {
            sum += self.unregularised(after, 0, &gradient.matrix(0));
        }
        -sum / self.total
    }

    /// A component without mass is as it was.
    fn keep(&self, k: usize, gradient: &Parameters, to_before: &mut Parameters) {
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

/// `constant + linear . e + e^T square e` of `e = x - m`, a component each.
pub(crate) struct Quadratics {
    pub(crate) constant: Vec<f64>,
    pub(crate) linear: Vec<f64>,
    /// Matrices, or diagonals.
    pub(crate) square: Vec<f64>,
    /// The gradient with respect to N.
    pub(crate) of_total: f64,
}

impl Quadratics {
    pub(crate) fn zeros(matrix: bool, components: usize, width: usize) -> Self {
        let size = if matrix { width * width } else { width };
        Self {
            constant: vec![0.0; components],
            linear: vec![0.0; components * width],
            square: vec![0.0; components * size],
            of_total: 0.0,
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
