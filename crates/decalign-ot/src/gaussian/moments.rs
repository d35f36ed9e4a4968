//! The moments of Gaussians, checked once.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result, parallel};

use super::eigen::symmetric;
use crate::tensor_convert::read;

/// Means, and the roots, traces and norms of covariances, of several Gaussians in f64.
pub(super) struct Moments {
    means: Vec<f64>,
    /// Symmetric roots of the covariances.
    roots: Vec<f64>,
    pub(super) traces: Vec<f64>,
    /// The largest eigenvalue of each covariance.
    pub(super) norms: Vec<f64>,
    /// Dimensions.
    pub(super) width: usize,
}

impl Moments {
    pub(super) fn read(side: &str, mean: &Tensor, covariance: &Tensor) -> Result<Self> {
        let (count, d) = match (mean.dims(), covariance.dims()) {
            ([k, d], [k2, rows, columns]) if k == k2 && d == rows && d == columns && k * d > 0 => {
                (*k, *d)
            }
            _ => {
                let got = (mean.shape(), covariance.shape());
                let name = format!("mean{side} and covariance{side}");
                return Err(Error::tensor(name, "(K, d) and (K, d, d), not empty", got));
            }
        };
        let (means, covariances) = (read::<f64>(mean)?, read::<f64>(covariance)?);
        for (name, numbers) in [("mean", &means), ("covariance", &covariances)] {
            if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
                let name = format!("{name}{side}, element {at},");
                return Err(Error::value(name, numbers[at], "must be finite"));
            }
        }
        let tolerance = match mean.dtype() {
            DType::F32 => f64::from(f32::EPSILON).sqrt(),
            _ => f64::EPSILON.sqrt(),
        };
        let mut all = Self {
            means,
            roots: Vec::with_capacity(covariances.len()),
            traces: Vec::with_capacity(count),
            norms: Vec::with_capacity(count),
            width: d,
        };
        let eigen = parallel::map(count, count * 100 * d * d * d, |k| {
            let covariance = &covariances[k * d * d..][..d * d];
            let covariance = symmetrized(covariance, d, tolerance, (side, k))?;
            Ok::<_, Error>(symmetric(&covariance, d))
        });
        for (k, eigen) in eigen.into_iter().enumerate() {
            let eigen = eigen?;
            let least = eigen.values.iter().fold(f64::INFINITY, |m, v| v.min(m));
            if least < -tolerance * eigen.norm() {
                let name = format!("the least eigenvalue of covariance{side} {k}");
                let remedy = "must not be negative; add to the diagonal";
                return Err(Error::value(name, least, remedy));
            }
            all.roots.extend(eigen.map(|v| v.max(0.0).sqrt()));
            all.traces
                .push(eigen.values.iter().map(|v| v.max(0.0)).sum());
            all.norms.push(eigen.norm());
        }
        Ok(all)
    }

    pub(super) fn len(&self) -> usize {
        self.norms.len()
    }

    pub(super) fn mean(&self, k: usize) -> &[f64] {
        &self.means[k * self.width..][..self.width]
    }

    pub(super) fn root(&self, k: usize) -> &[f64] {
        &self.roots[k * self.width * self.width..][..self.width * self.width]
    }
}

/// The mean of both triangles of a symmetric matrix.
fn symmetrized(a: &[f64], d: usize, tolerance: f64, (side, k): (&str, usize)) -> Result<Vec<f64>> {
    let largest = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let mut out = a.to_vec();
    for i in 0..d {
        for j in 0..i {
            let (x, y) = (a[i * d + j], a[j * d + i]);
            if (x - y).abs() > tolerance * largest {
                let name = format!("covariance{side} {k} at ({i}, {j})");
                let remedy = format!("must equal {y} at ({j}, {i}): covariances are symmetric");
                return Err(Error::value(name, x, remedy));
            }
            let mean = 0.5 * x + 0.5 * y;
            (out[i * d + j], out[j * d + i]) = (mean, mean);
        }
    }
    Ok(out)
}
