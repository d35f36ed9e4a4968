//! The permutation test.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result, with_real};

use super::kernel_test::KernelTest;
use super::outcome::{self, Outcome, Resampling, Stopping};
use super::relabelling::{Relabelling, labels};
use super::two_samples::TwoSamples;
use crate::estimator::Estimator;
use crate::kernel::Kernel;

/// Tests whether two samples come from one distribution: MMD^2 against its values under random relabellings of the
/// points.
///
/// ```text
/// p = (1 + #{permuted MMD^2 >= MMD^2}) / (1 + draws)
/// ```
///
/// Under the null hypothesis (all points exchangeable) `P(p <= level) <= level` at every sample size.
/// One pass over the pairs serves as many relabellings as fill 64 MB.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{Estimator, Kernel, PermutationTest, Resampling, Stopping};
/// let x = Tensor::arange(0f32, 20.0, &Device::Cpu)?.reshape((20, 1))?;
/// let kernel = Kernel::gaussian_length_scale(5.0)?;
/// let test = PermutationTest::new(kernel, Estimator::Unbiased, Resampling::seeded(1));
/// let moved = test.test(&x, &(&x + 10.0)?)?;
/// assert!(moved.rejected && moved.p_value == 0.001);
/// let same = test.stopping(Stopping::WhenCertain).test(&x, &(&x + 0.5)?)?;
/// assert!(!same.rejected && same.draws < 999);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Gretton and others, A kernel two-sample test, JMLR 2012; the form as a three-vector product:
/// Schrab and others, JMLR 2023, appendix C.
#[derive(Clone, Debug)]
pub struct PermutationTest {
    pub(crate) settings: KernelTest,
}

impl PermutationTest {
    /// With the given kernel and estimator; all draws are made.
    pub fn new(kernel: Kernel, estimator: Estimator, resampling: Resampling) -> Self {
        Self {
            settings: KernelTest::new(kernel, estimator, resampling),
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
    /// `x` (n, d), `y` (m, d) in f32 or f64; n, m >= 1, or 2 for the unbiased estimator.
    ///
    /// # Errors
    /// When shapes or dtypes differ, an entry is not finite, sums overflow, or a setting is out of
    /// range.
    pub fn test(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        with_real!("x", x, T => self.settings.run::<T>(Relabelling::Permutations, x, y))
    }

    /// The statistics that [`PermutationTest::test`] draws, without the observed one.
    ///
    /// # Shapes
    /// As [`PermutationTest::test`].
    ///
    /// # Errors
    /// As [`PermutationTest::test`].
    pub fn null(&self, x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
        let mut all = self.all(x, y)?;
        all.remove(0);
        Ok(all)
    }

    /// The observed statistic, and all that are drawn.
    pub(crate) fn all(&self, x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
        self.settings.resampling.check()?;
        let total = self.settings.resampling.draws + 1;
        with_real!("x", x, T => {
            let pooled = self.settings.pool::<T>(x, y)?;
            let limit = pooled.layout.limit::<T>();
            let mut all = Vec::with_capacity(total);
            while all.len() < total {
                let numbers = all.len()..(all.len() + limit).min(total);
                let relabelling = Relabelling::Permutations;
                all.extend(self.settings.draw(&pooled, relabelling, numbers)?.values);
            }
            Ok(all)
        })
    }

    /// Tests two small samples against all C(n + m, n) relabellings: p is the share that reaches the statistic,
    /// `draws` the number of relabellings.
    ///
    /// # Shapes
    /// As [`PermutationTest::test`].
    ///
    /// # Errors
    /// As [`PermutationTest::test`], and when there are more than 200,000 relabellings.
    pub fn exact(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        self.settings.resampling.check()?;
        with_real!("x", x, T => self.enumerate(&self.settings.pool::<T>(x, y)?))
    }

    fn enumerate<T: Real>(&self, pooled: &TwoSamples<T>) -> Result<Outcome> {
        let (n, m) = pooled.sizes;
        let all = choices(n + m, n)?;
        let limit = pooled.layout.limit::<T>();
        let (mut values, mut tolerance) = (Vec::with_capacity(all.len()), 0.0);
        for some in all.chunks(limit) {
            let found = pooled.statistics(Relabelling::Permutations, some.len(), |i| {
                let chosen = some[i].iter().map(|i| *i as usize);
                labels(pooled.sizes, chosen)
            })?;
            let batch = found.into_batch();
            values.extend(batch.values);
            tolerance = batch.tolerance;
        }
        // The first choice keeps the samples.
        let least = values[0] - tolerance;
        let reached = values.iter().filter(|v| **v >= least).count();
        let p = reached as f64 / values.len() as f64;
        let draws = values.len();
        let outcome = outcome::finish(values, p, self.settings.resampling.level);
        Ok(Outcome { draws, ..outcome })
    }
}

/// The largest number of relabellings that are enumerated.
const MAX_RELABELLINGS: usize = 200_000;

/// All choices of `count` of the numbers below `total`, from (0, ..., count - 1) on.
fn choices(total: usize, count: usize) -> Result<Vec<Vec<u32>>> {
    let mut all = Vec::new();
    let mut now: Vec<u32> = (0..count as u32).collect();
    loop {
        if all.len() == MAX_RELABELLINGS {
            let remedy =
                "has more than 200000 relabellings: use PermutationTest::test, which draws them";
            let name = "number of points to relabel";
            return Err(Error::value(name, total, remedy));
        }
        all.push(now.clone());
        let last = |i: usize| (total - count + i) as u32;
        let Some(i) = (0..count).rev().find(|i| now[*i] < last(*i)) else {
            return Ok(all);
        };
        let start = now[i] + 1;
        now[i..]
            .iter_mut()
            .zip(start..)
            .for_each(|(v, new)| *v = new);
    }
}
