//! The wild bootstrap.

use candle_core::Tensor;
use decalign_core::{Result, with_real};

use super::kernel_test::KernelTest;
use super::outcome::{Outcome, Resampling, Stopping};
use super::relabelling::Relabelling;
use super::two_samples::check_paired;
use crate::estimator::Estimator;
use crate::kernel::{Kernel, positive};

/// Tests whether two samples of equal size come from one distribution: MMD^2 against its values under random
/// signs of the pairs `z_i = (x_i, y_i)`.
///
/// ```text
/// V = sum_ij e_i e_j h(z_i, z_j) / n^2
/// h(z, z') = k(x, x') + k(y, y') - k(x, y') - k(x', y)
/// ```
///
/// The unbiased estimator leaves out i = j and divides by n (n - 1); it is then the U-statistic of the
/// pairs, which does not hold `k(x_i, y_i)`, unlike that of [`crate::Mmd`].
///
/// With independent points a sign swaps the points of a pair, and the level is kept at every sample
/// size. For points that depend on those before them, [`WildBootstrap::dependent`] replaces the signs
/// by a process, and the level is kept as n grows.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{Estimator, Kernel, Resampling, WildBootstrap};
/// let x = Tensor::arange(0f64, 20.0, &Device::Cpu)?.reshape((20, 1))?;
/// let kernel = Kernel::gaussian_length_scale(5.0)?;
/// let test = WildBootstrap::new(kernel, Estimator::Biased, Resampling::seeded(1));
/// assert!(test.test(&x, &(&x + 10.0)?)?.rejected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Chwialkowski, Sejdinovic, Gretton, A wild bootstrap for degenerate kernel tests, NeurIPS 2014;
/// for independent points Fromont and others, COLT 2012.
#[derive(Clone, Debug)]
pub struct WildBootstrap {
    settings: KernelTest,
    relabelling: Relabelling,
}

impl WildBootstrap {
    /// With the given kernel and estimator and random signs; all draws are made.
    pub fn new(kernel: Kernel, estimator: Estimator, resampling: Resampling) -> Self {
        Self {
            settings: KernelTest::new(kernel, estimator, resampling),
            relabelling: Relabelling::Signs,
        }
    }

    /// For time series: the signs become a stationary normal process of correlation `exp(-|t - s| / lag)`, minus
    /// its mean. `lag`, the correlation length in steps, must be positive and finite.
    #[must_use]
    pub fn dependent(self, lag: f64) -> Self {
        Self {
            relabelling: Relabelling::Process { lag },
            ..self
        }
    }

    /// Stops drawing early, see [`Stopping`].
    #[must_use]
    pub fn stopping(mut self, stopping: Stopping) -> Self {
        self.settings.stopping = stopping;
        self
    }

    /// Tests two samples.
    ///
    /// # Shapes
    /// `x` and `y` (n, d) in f32 or f64; n >= 1, or 2 for the unbiased estimator.
    ///
    /// # Errors
    /// When shapes or dtypes differ, an entry is not finite, sums overflow, or a setting is out of
    /// range.
    pub fn test(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        check_paired(x, y)?;
        if let Relabelling::Process { lag } = self.relabelling {
            positive("lag", lag)?;
        }
        with_real!("x", x, T => self.settings.run::<T>(self.relabelling, x, y))
    }
}
