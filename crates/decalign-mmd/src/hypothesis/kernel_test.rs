//! Two-sample tests with one kernel: settings and draws.

use candle_core::Tensor;
use decalign_core::{Real, Result};

use super::outcome::{self, Batch, Outcome, Resampling, Stopping};
use super::relabelling::Relabelling;
use super::two_samples::TwoSamples;
use crate::estimator::Estimator;
use crate::kernel::Kernel;

/// The settings that two-sample tests with one kernel share.
#[derive(Clone, Debug)]
pub(crate) struct KernelTest {
    pub(crate) kernel: Kernel,
    pub(crate) estimator: Estimator,
    pub(crate) resampling: Resampling,
    pub(crate) stopping: Stopping,
}

impl KernelTest {
    pub(crate) fn new(kernel: Kernel, estimator: Estimator, resampling: Resampling) -> Self {
        Self {
            kernel,
            estimator,
            resampling,
            stopping: Stopping::Never,
        }
    }

    pub(crate) fn pool<T: Real>(&self, x: &Tensor, y: &Tensor) -> Result<TwoSamples<T>> {
        TwoSamples::new(std::slice::from_ref(&self.kernel), self.estimator, (x, y))
    }

    /// The statistics of relabellings of some numbers.
    pub(crate) fn draw<T: Real>(
        &self,
        pooled: &TwoSamples<T>,
        relabelling: Relabelling,
        numbers: std::ops::Range<usize>,
    ) -> Result<Batch> {
        let found = pooled.drawn(relabelling, self.resampling.seed, numbers)?;
        Ok(found.into_batch())
    }

    /// Tests two samples.
    pub(crate) fn run<T: Real>(
        &self,
        relabelling: Relabelling,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<Outcome> {
        let pooled = self.pool::<T>(x, y)?;
        let limit = pooled.layout.limit::<T>();
        outcome::run(&self.resampling, self.stopping, limit, |numbers| {
            self.draw(&pooled, relabelling, numbers)
        })
    }
}
