//! The parameters of a mixture, packed in the order in which the register tiles read them.

use decalign_core::{Real, Result, simd};

use super::Buffers;
use super::log_densities::LogDensities;
use crate::covariance::Covariance;
use crate::parameters::{Factors, MixtureParameters};
use crate::row_chunk::RowChunk;

/// Rows of a triangular tile: 6 rows of two f32 vectors (3 of four f64 vectors) are 12 sums, which leaves 4 of the 16 registers of
/// AVX2 for operands.
pub(crate) const fn triangle_group<T>() -> usize {
    if size_of::<T>() == 4 { 6 } else { 3 }
}

/// Components of a diagonal tile: sums, differences and samples are in registers together.
pub(crate) const fn pair_group<T>() -> usize {
    if size_of::<T>() == 4 { 4 } else { 2 }
}

/// `log2 (pi p(x)) = offset - |W x + b|^2`, with the factor `sqrt(log2(e) / 2)` in W and `b = -W m`.
pub(crate) struct PackedMixture<T> {
    pub(crate) components: usize,
    pub(crate) width: usize,
    pub(crate) offsets: Vec<T>,
    pub(crate) weights: PackedCovariances<T>,
}

pub(crate) enum PackedCovariances<T> {
    /// Groups of components; each dimension has W of the group, then b of the group.
    Diagonal(Vec<T>),
    /// A triangle a component.
    Full(Vec<Triangle<T>>),
    /// One triangle for all components, then diagonal tiles of the transformed means.
    Tied(Triangle<T>, Vec<T>),
}

/// Groups of rows of a lower triangular matrix, each stored by columns up to the diagonal.
pub(crate) struct Triangle<T> {
    pub(crate) matrix: Vec<T>,
    /// Padded to whole groups.
    pub(crate) bias: Vec<T>,
}

impl<T: Real> PackedMixture<T> {
    /// Factors the covariances.
    ///
    /// # Errors
    /// When one is singular.
    pub(crate) fn of(mixture: &MixtureParameters) -> Result<Self> {
        let factors = mixture.factors(T::epsilon().as_f64())?;
        Ok(Self::new(mixture, &factors))
    }

    pub(crate) fn new(mixture: &MixtureParameters, factors: &Factors) -> Self {
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
                PackedCovariances::Full(means.map(|(k, mean)| triangle(k, mean)).collect())
            }
            Covariance::Tied => {
                let transformed = |mean: &[f64]| -> Vec<f64> {
                    let rows = scaled.chunks_exact(d);
                    rows.map(|row| row.iter().zip(mean).map(|(w, m)| w * m).sum())
                        .collect()
                };
                let means: Vec<f64> = mixture
                    .means
                    .chunks_exact(d)
                    .flat_map(transformed)
                    .collect();
                PackedCovariances::Tied(
                    triangle(0, &vec![0.0; d]),
                    pairs(&vec![1.0; k * d], &means, d),
                )
            }
            Covariance::Diagonal | Covariance::Spherical => {
                PackedCovariances::Diagonal(pairs(&scaled, &mixture.means, d))
            }
        };
        Self {
            components: k,
            width: d,
            offsets,
            weights,
        }
    }

    /// Makes the log-densities squared distances (times -1) to points, each dimension divided by its deviation.
    pub(crate) fn of_points(points: &[f64], reciprocals: &[f64]) -> Self {
        let d = reciprocals.len();
        let k = points.len() / d;
        Self {
            components: k,
            width: d,
            offsets: vec![T::zero(); k],
            weights: PackedCovariances::Diagonal(pairs(&reciprocals.repeat(k), points, d)),
        }
    }

    /// Writes the log-densities (base 2) of a chunk to the cells of the buffers.
    pub(crate) fn log_densities(&self, chunk: &RowChunk<T>, buffers: &mut Buffers<T>) {
        simd::dispatch(LogDensities {
            packed: self,
            chunk,
            out: &mut buffers.cells,
            scratch: &mut buffers.scratch,
        });
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
        let (d, g) = (mean.len(), triangle_group::<T>());
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
