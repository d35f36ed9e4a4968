//! The coordinates that loops work in.
//!
//! ```text
//! x' = (x - centre) 2^-e
//! ```
//!
//! The centre costs no digits where data lies far from 0; a power of two a column costs none at all and
//! keeps squares in range at any scale.

use decalign_core::Real;
use decalign_core::simd::LANES;

use crate::covariance::Covariance;
use crate::parameters::Parameters;

/// Centre and scale of the columns.
#[derive(Clone, Debug)]
pub(crate) struct Frame<T> {
    pub(crate) centre: Vec<T>,
    /// `2^-e`.
    pub(crate) inverse: Vec<T>,
}

impl<T: Real> Frame<T> {
    /// About the mean of the rows, of size 1; one scale for all columns where `kind` has one variance for
    /// all.
    pub(crate) fn of(x: &[T], width: usize, kind: Covariance) -> Self {
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
    pub(crate) fn of_mixture(mixture: &Parameters) -> Self {
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
        // Powers that exist, with their reciprocals and squares in f64.
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
            inverse: reach.iter().map(each).collect(),
        }
    }

    /// Centre and scale by blocks of columns, 0 behind the last.
    pub(crate) fn blocks(&self) -> Vec<[[T; LANES]; 2]> {
        let block = |(c, s): (&[T], &[T])| {
            let mut out = [[T::zero(); LANES]; 2];
            out[0][..c.len()].copy_from_slice(c);
            out[1][..s.len()].copy_from_slice(s);
            out
        };
        let centres = self.centre.chunks(LANES);
        centres.zip(self.inverse.chunks(LANES)).map(block).collect()
    }

    /// Numbers of a mixture in these coordinates.
    pub(crate) fn enter(&self, p: &Parameters) -> Parameters {
        let mut out = p.clone();
        let d = p.width;
        for row in out.means.chunks_exact_mut(d) {
            for (j, v) in row.iter_mut().enumerate() {
                *v = (*v - self.centre[j].as_f64()) * self.inverse[j].as_f64();
            }
        }
        self.scale(&mut out, |v, s| v * s);
        out
    }

    /// And back.
    pub(crate) fn leave(&self, p: &Parameters) -> Parameters {
        let mut out = p.clone();
        let d = p.width;
        for row in out.means.chunks_exact_mut(d) {
            for (j, v) in row.iter_mut().enumerate() {
                *v = *v / self.inverse[j].as_f64() + self.centre[j].as_f64();
            }
        }
        self.scale(&mut out, |v, s| v / s);
        out
    }

    /// Gradients with respect to numbers as given, made gradients with respect to these.
    pub(crate) fn enter_gradient(&self, g: &Parameters) -> Parameters {
        let mut out = g.clone();
        for row in out.means.chunks_exact_mut(g.width) {
            for (j, v) in row.iter_mut().enumerate() {
                *v /= self.inverse[j].as_f64();
            }
        }
        self.scale(&mut out, |v, s| v / s);
        out
    }

    /// And back.
    pub(crate) fn leave_gradient(&self, g: &Parameters) -> Parameters {
        let mut out = g.clone();
        for row in out.means.chunks_exact_mut(g.width) {
            for (j, v) in row.iter_mut().enumerate() {
                *v *= self.inverse[j].as_f64();
            }
        }
        self.scale(&mut out, |v, s| v * s);
        out
    }

    /// `f(covariance, product of its two scales)`.
    fn scale(&self, p: &mut Parameters, f: impl Fn(f64, f64) -> f64) {
        let (d, kind) = (p.width, p.kind);
        for (at, v) in p.covariances.iter_mut().enumerate() {
            let (i, j) = match kind {
                Covariance::Full | Covariance::Tied => (at / d % d, at % d),
                Covariance::Diagonal => (at % d, at % d),
                Covariance::Spherical => (0, 0),
            };
            *v = f(*v, self.inverse[i].as_f64() * self.inverse[j].as_f64());
        }
    }

    /// An additive floor of variances, column by column.
    pub(crate) fn floor(&self, floor: f64) -> Vec<f64> {
        let each = self.inverse.iter().map(|s| s.as_f64());
        each.map(|s| floor * s * s).collect()
    }

    /// `log |dx'/dx|`, to be added to log-densities.
    pub(crate) fn log_volume(&self) -> f64 {
        self.inverse.iter().map(|s| s.as_f64().ln()).sum()
    }
}
