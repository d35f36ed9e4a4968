//! Many kernels, one statistic: MMD-FUSE.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result, with_real};

use super::collection::{Spacing, gaussian_and_laplace};
use super::outcome::{self, Batch, Outcome, Resampling, Stopping};
use super::pooled::{Pooled, Statistics};
use super::scheme::Scheme;
use crate::estimator::Estimator;
use crate::kernel::Kernel;

/// The fused test of Biggs, Schrab and Gretton: the soft maximum of normalised MMD^2 of many kernels, with
/// permutations.
///
/// ```text
/// FUSE = 1/lambda log mean_k exp(lambda MMD_k^2 / sqrt N_k)
/// N_k  = sum_(i != j) k(z_i, z_j)^2 / (n (n - 1)),   lambda = sqrt(n (n - 1))
/// ```
///
/// over the pooled points z, with unbiased MMD^2 and n the size of the smaller sample. N_k does not
/// depend on which point is in which sample. All kernels and draws take one pass.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{MmdFuse, Resampling};
/// let x = Tensor::arange(0f32, 30.0, &Device::Cpu)?.reshape((30, 1))?;
/// let y = (&x * 0.2)?;
/// let test = MmdFuse::over_distances(&x, &y, 5, Resampling::seeded(1))?;
/// assert!(test.test(&x, &y)?.rejected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Biggs, Schrab, Gretton, MMD-FUSE, NeurIPS 2023.
#[derive(Clone, Debug)]
pub struct MmdFuse {
    kernels: Vec<Kernel>,
    sharpness: f64,
    resampling: Resampling,
    stopping: Stopping,
}

impl MmdFuse {
    /// Over given kernels, which must not depend on which point is in which sample.
    pub fn new(kernels: Vec<Kernel>, resampling: Resampling) -> Self {
        Self {
            kernels,
            sharpness: 1.0,
            resampling,
            stopping: Stopping::Never,
        }
    }

    /// Over `bandwidths` each of the paper's Gaussian `exp(-|a - b|^2 / (2 b^2))` and Laplace
    /// `exp(-|a - b|_1 / b)`, the b evenly spaced from half the 5% to twice the 95% quantile of the
    /// distances (Euclidean or city block) of different pooled points; of more than 2000 points of a
    /// random 2000.
    ///
    /// # Errors
    /// When samples are not as [`MmdFuse::test`] takes them, all points are equal, or `bandwidths` is 0.
    pub fn over_distances(
        x: &Tensor,
        y: &Tensor,
        bandwidths: usize,
        resampling: Resampling,
    ) -> Result<Self> {
        let (euclidean, city) =
            gaussian_and_laplace((x, y), bandwidths, Spacing::Even, resampling.seed)?;
        let gaussian = euclidean.into_iter().map(Kernel::gaussian_length_scale);
        let laplace = city.into_iter().map(Kernel::laplace);
        Ok(Self::new(
            gaussian.chain(laplace).collect::<Result<_>>()?,
            resampling,
        ))
    }

    /// Multiplies lambda: the larger, the closer to the maximum. Positive and finite, 1 if not given.
    #[must_use]
    pub fn sharpness(self, sharpness: f64) -> Self {
        Self { sharpness, ..self }
    }

    /// Stops drawing early.
    #[must_use]
    pub fn stopping(self, stopping: Stopping) -> Self {
        Self { stopping, ..self }
    }

    /// Tests two samples.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d) in f32 or f64; n, m >= 2.
    ///
    /// # Errors
    /// When there is no kernel, shapes or dtypes differ, an entry is not finite, sums overflow, or a
    /// setting is out of range.
    pub fn test(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        if !(self.sharpness > 0.0 && self.sharpness.is_finite()) {
            let remedy = "must be positive and finite";
            return Err(Error::value("sharpness", self.sharpness, remedy));
        }
        with_real!("x", x, T => self.run::<T>(x, y))
    }

    fn run<T: Real>(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        let pooled = Pooled::<T>::new(&self.kernels, Estimator::Unbiased, (x, y))?;
        let limit = pooled.layout.limit::<T>();
        let n = pooled.sizes.0.min(pooled.sizes.1) as f64;
        let scheme = Scheme::Permutations;
        outcome::run(&self.resampling, self.stopping, limit, |range| {
            let found = pooled.statistics(scheme, range.len(), |i| {
                scheme.vector(pooled.sizes, self.resampling.seed, range.start + i)
            })?;
            Ok(fuse(&found, n * (n - 1.0), self.sharpness))
        })
    }
}

fn fuse(found: &Statistics, pairs: f64, sharpness: f64) -> Batch {
    let lambda = sharpness * pairs.sqrt();
    // A kernel that is 0 between all points tells nothing.
    let scale = |square: f64| {
        if square > 0.0 {
            (pairs / square).sqrt()
        } else {
            0.0
        }
    };
    let scales: Vec<f64> = found.squares.iter().map(|s| scale(*s)).collect();
    let count = found.values.first().map_or(0, Vec::len);
    let value = |b: usize| {
        let each = found.values.iter().zip(&scales);
        let each: Vec<f64> = each.map(|(v, s)| lambda * s * v[b]).collect();
        let largest = each.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let sum: f64 = each.iter().map(|v| (v - largest).exp()).sum();
        (largest + (sum / each.len() as f64).ln()) / lambda
    };
    let tolerances = found.tolerances.iter().zip(&scales).map(|(t, s)| t * s);
    Batch {
        values: (0..count).map(value).collect(),
        tolerance: tolerances.fold(0.0, f64::max),
    }
}
