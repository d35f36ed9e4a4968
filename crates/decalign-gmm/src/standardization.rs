//! Columns standardised for the loops.
//!
//! ```text
//! x' = (x - centre) 2^-e
//! ```
//!
//! Centring keeps the digits of data that lies far from 0. A power of two a column is exact and keeps squares in range at any
//! scale.

use decalign_core::Real;
use decalign_core::simd::LANES;

use crate::covariance::Covariance;
use crate::parameters::MixtureParameters;

/// Centre and scale of the columns.
#[derive(Clone, Debug)]
pub(crate) struct Standardization<T> {
    pub(crate) centre: Vec<T>,
    /// `2^-e`.
    pub(crate) scale: Vec<T>,
}

impl<T: Real> Standardization<T> {
    /// Centres rows at their mean and scales their reach to 1; one scale for all columns where `kind` has one variance for
    /// all.
    pub(crate) fn of_rows(x: &[T], width: usize, kind: Covariance) -> Self {
        let rows = (x.len() / width) as f64;
        let mut mean = vec![0.0; width];
        for row in x.chunks_exact(width) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, v)| *m += v.as_f64() / rows);
        }
        let centre: Vec<T> = mean.iter().map(|m| T::of(*m)).collect();
        let mut reach = vec![0.0f64; width];
        for row in x.chunks_exact(width) {
            for ((r, v), c) in reach.iter_mut().zip(row).zip(&centre) {
                *r = r.max((v.as_f64() - c.as_f64()).abs());
            }
        }
        Self::new(centre, &reach, kind)
    }

    /// Suits the samples of a mixture.
    pub(crate) fn of_mixture(mixture: &MixtureParameters) -> Self {
        let d = mixture.width;
        let mut mean = vec![0.0; d];
        for (row, w) in mixture.means.chunks_exact(d).zip(&mixture.weights) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += w * v);
        }
        let mut reach = vec![0.0f64; d];
        for (k, row) in mixture.means.chunks_exact(d).enumerate() {
            for j in 0..d {
                let deviation = mixture.variance(k, j).max(0.0).sqrt();
                reach[j] = reach[j].max((row[j] - mean[j]).abs() + deviation);
            }
        }
        let centre = mean.iter().map(|m| T::of(*m)).collect();
        Self::new(centre, &reach, mixture.kind)
    }

    fn new(centre: Vec<T>, reach: &[f64], kind: Covariance) -> Self {
        let largest = reach.iter().fold(0.0f64, |m, v| m.max(*v));
        // Exponents whose powers, reciprocals and squares exist in the type.
        let limit = if size_of::<T>() == 4 { 120 } else { 500 };
        let power = |reach: f64| {
            let exponent = if reach > 0.0 {
                reach.log2().ceil() as i32
            } else {
                0
            };
            T::of(2f64.powi(-exponent.clamp(-limit, limit)))
        };
        let each = |r: &f64| match kind {
            Covariance::Spherical => power(largest),
            _ => power(*r),
        };
        Self {
            centre,
            scale: reach.iter().map(each).collect(),
        }
    }

    /// Centre and scale by blocks of columns, padded with 0.
    pub(crate) fn blocks(&self) -> Vec<[[T; LANES]; 2]> {
        let block = |(c, s): (&[T], &[T])| {
            let mut out = [[T::zero(); LANES]; 2];
            out[0][..c.len()].copy_from_slice(c);
            out[1][..s.len()].copy_from_slice(s);
            out
        };
        let centres = self.centre.chunks(LANES);
        centres.zip(self.scale.chunks(LANES)).map(block).collect()
    }

    /// A mixture of the given data as a mixture of the standardised data.
    pub(crate) fn standardize(&self, p: &MixtureParameters) -> MixtureParameters {
        self.map(p, |v, c, s| (v - c) * s, |v, s| v * s)
    }

    /// The inverse of [`Standardization::standardize`].
    pub(crate) fn restore(&self, p: &MixtureParameters) -> MixtureParameters {
        self.map(p, |v, c, s| v / s + c, |v, s| v / s)
    }

    /// The gradient with respect to a mixture of the given data as that with respect to the standardised one.
    pub(crate) fn standardize_gradient(&self, g: &MixtureParameters) -> MixtureParameters {
        self.map(g, |v, _, s| v / s, |v, s| v / s)
    }

    /// The inverse of [`Standardization::standardize_gradient`].
    pub(crate) fn restore_gradient(&self, g: &MixtureParameters) -> MixtureParameters {
        self.map(g, |v, _, s| v * s, |v, s| v * s)
    }

    /// Applies `mean(value, centre, scale)` to means and `covariance(value, product of its two scales)` to covariances.
    fn map(
        &self,
        p: &MixtureParameters,
        mean: impl Fn(f64, f64, f64) -> f64,
        covariance: impl Fn(f64, f64) -> f64,
    ) -> MixtureParameters {
        let (mut out, d) = (p.clone(), p.width);
        let scale = |j: usize| self.scale[j].as_f64();
        for (at, v) in out.means.iter_mut().enumerate() {
            *v = mean(*v, self.centre[at % d].as_f64(), scale(at % d));
        }
        for (at, v) in out.covariances.iter_mut().enumerate() {
            let (i, j) = match p.kind {
                Covariance::Full | Covariance::Tied => (at / d % d, at % d),
                Covariance::Diagonal => (at % d, at % d),
                Covariance::Spherical => (0, 0),
            };
            *v = covariance(*v, scale(i) * scale(j));
        }
        out
    }

    /// Multiplies the gradient with respect to standardised rows to that with respect to the given ones.
    pub(crate) fn restore_row_gradient(&self, rows: &mut [T]) {
        for row in rows.chunks_exact_mut(self.scale.len()) {
            row.iter_mut().zip(&self.scale).for_each(|(v, s)| *v *= *s);
        }
    }

    /// An additive variance of the given data, column by column of the standardised one.
    pub(crate) fn variance(&self, variance: f64) -> Vec<f64> {
        let each = self.scale.iter().map(|s| s.as_f64());
        each.map(|s| variance * s * s).collect()
    }

    /// `log |dx'/dx|`, to be added to log-densities.
    pub(crate) fn log_volume(&self) -> f64 {
        self.scale.iter().map(|s| s.as_f64().ln()).sum()
    }
}
