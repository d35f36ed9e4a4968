//! MMD-FUSE: one statistic of many kernels.

use candle_core::Tensor;
use decalign_core::{Real, Result, with_real};

use super::bandwidths::kernels_over_distances;
use super::outcome::{self, Batch, Outcome, Resampling, Stopping};
use super::relabelling::Relabelling;
use super::two_samples::{Statistics, TwoSamples};
use crate::estimator::Estimator;
use crate::kernel::{Kernel, positive};
use crate::quantiles::Spacing;

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
        let grid = (bandwidths, Spacing::Even);
        let kernels = kernels_over_distances((x, y), grid, resampling.seed, 1.0)?;
        Ok(Self::new(kernels, resampling))
    }

    /// Multiplies lambda: the larger, the closer to the maximum. Positive and finite, 1 if not given.
    #[must_use]
    pub fn sharpness(self, sharpness: f64) -> Self {
        Self { sharpness, ..self }
    }

    /// Stops drawing early, see [`Stopping`].
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
        positive("sharpness", self.sharpness)?;
        with_real!("x", x, T => self.run::<T>(x, y))
    }

    fn run<T: Real>(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        let pooled = TwoSamples::<T>::new(&self.kernels, Estimator::Unbiased, (x, y))?;
        let limit = pooled.layout.limit::<T>();
        let n = pooled.sizes.0.min(pooled.sizes.1) as f64;
        let relabelling = Relabelling::Permutations;
        outcome::run(&self.resampling, self.stopping, limit, |numbers| {
            let found = pooled.drawn(relabelling, self.resampling.seed, numbers)?;
            Ok(fuse(&found, n * (n - 1.0), self.sharpness))
        })
    }
}

fn fuse(found: &Statistics, pairs: f64, sharpness: f64) -> Batch {
    let lambda = sharpness * pairs.sqrt();
    // A kernel that is 0 between all points carries no information.
    let scale = |square: f64| match square > 0.0 {
        true => (pairs / square).sqrt(),
        false => 0.0,
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
