//! The parameters of a mixture in the order that tiles read them.

use decalign_core::{Real, Result};

use crate::covariance::Covariance;
use crate::parameters::{Factors, Parameters};

/// Rows of a tile: as many as keep their sums in the registers of 256-bit vectors.
pub(crate) const fn group<T>() -> usize {
    if size_of::<T>() == 4 { 6 } else { 3 }
}

/// Components of a diagonal tile: sums, samples and a term of each component at once.
pub(crate) const fn pair_group<T>() -> usize {
    if size_of::<T>() == 4 { 4 } else { 2 }
}

/// What `log2 (pi p(x))` is computed from: `offset - |W x + b|^2`, with `sqrt(log2(e) / 2)` in W.
pub(crate) struct Tiles<T> {
    pub(crate) components: usize,
    pub(crate) width: usize,
    pub(crate) offsets: Vec<T>,
    pub(crate) weights: Form<T>,
}

pub(crate) enum Form<T> {
    /// Groups of components; of each dimension W of the group, then b of the group.
    Diagonal(Vec<T>),
    /// A triangle a component.
    Full(Vec<Triangle<T>>),
    /// One triangle for all, then distances as of diagonal covariances.
    Tied(Triangle<T>, Vec<T>),
}

/// Groups of rows of a lower triangular matrix, each column after column up to the diagonal.
pub(crate) struct Triangle<T> {
    pub(crate) matrix: Vec<T>,
    /// Up to whole groups.
    pub(crate) bias: Vec<T>,
}

impl<T: Real> Tiles<T> {
    /// Factors the covariances.
    ///
    /// # Errors
    /// When one is singular.
    pub(crate) fn of(mixture: &Parameters) -> Result<Self> {
        let epsilon = if size_of::<T>() == 4 {
            f64::from(f32::EPSILON)
        } else {
            f64::EPSILON
        };
        Ok(Self::new(mixture, &mixture.factors(epsilon)?))
    }

    pub(crate) fn new(mixture: &Parameters, factors: &Factors) -> Self {
        let (k, d) = (mixture.components(), mixture.width);
        let log_tau = d as f64 * std::f64::consts::TAU.ln();
        let offsets = (0..k)
            .map(|k| mixture.weights[k].ln() - 0.5 * (factors.log_determinants[k] + log_tau))
            .map(|log| T::of(log * std::f64::consts::LOG2_E))
            .collect();
        let unit = (0.5 * std::f64::consts::LOG2_E).sqrt();
        let scaled: Vec<f64> = factors.inverse.iter().map(|v| v * unit).collect();
        let triangle = |k: usize, mean: &[f64]| Triangle::new(&scaled[k * d * d..][..d * d], mean);
        let weights = match mixture.kind {
            Covariance::Full => {
                let means = mixture.means.chunks_exact(d).enumerate();
                Form::Full(means.map(|(k, mean)| triangle(k, mean)).collect())
            }
            Covariance::Tied => {
                let turn = |mean: &[f64]| -> Vec<f64> {
                    let rows = scaled.chunks_exact(d);
                    rows.map(|row| row.iter().zip(mean).map(|(w, m)| w * m).sum())
                        .collect()
                };
                let means: Vec<f64> = mixture.means.chunks_exact(d).flat_map(turn).collect();
                Form::Tied(
                    triangle(0, &vec![0.0; d]),
                    pairs(&vec![1.0; k * d], &means, d),
                )
            }
            Covariance::Diagonal | Covariance::Spherical => {
                Form::Diagonal(pairs(&scaled, &mixture.means, d))
            }
        };
        Self {
            components: k,
            width: d,
            offsets,
            weights,
        }
    }

    /// Squared distances (times -1) to points, in units of one deviation a dimension.
    pub(crate) fn distances(points: &[f64], reciprocals: &[f64]) -> Self {
        let d = reciprocals.len();
        let k = points.len() / d;
        Self {
            components: k,
            width: d,
            offsets: vec![T::zero(); k],
            weights: Form::Diagonal(pairs(&reciprocals.repeat(k), points, d)),
        }
    }
}

/// `W` and `b = -W m` of diagonal matrices, interleaved by groups.
fn pairs<T: Real>(scales: &[f64], means: &[f64], d: usize) -> Vec<T> {
    let g = pair_group::<T>();
    let k = means.len() / d;
    let mut out = vec![T::zero(); k.next_multiple_of(g) * d * 2];
    for at in 0..k * d {
        let (k, j) = (at / d, at % d);
        let to = ((k / g) * d + j) * 2 * g + k % g;
        out[to] = T::of(scales[at]);
        out[to + g] = T::of(-scales[at] * means[at]);
    }
    out
}

impl<T: Real> Triangle<T> {
    fn new(lower: &[f64], mean: &[f64]) -> Self {
        let (d, g) = (mean.len(), group::<T>());
        let groups = d.div_ceil(g);
        let mut matrix = Vec::new();
        let mut bias = vec![T::zero(); groups * g];
        for first in (0..d).step_by(g) {
            for i in 0..d.min(first + g) {
                let row = |r: usize| {
                    let j = first + r;
                    if j < d {
                        T::of(lower[j * d + i])
                    } else {
                        T::zero()
                    }
                };
                matrix.extend((0..g).map(row));
            }
        }
        for (bias, row) in bias.iter_mut().zip(lower.chunks_exact(d)) {
            *bias = T::of(-row.iter().zip(mean).map(|(w, m)| w * m).sum::<f64>());
        }
        Self { matrix, bias }
    }
}
