//! MMDAgg: a test that aggregates many kernels at one level.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result, with_real};

use super::bandwidths::kernels_over_distances;
use super::outcome::Resampling;
use super::relabelling::Relabelling;
use super::two_samples::TwoSamples;
use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::quantiles::Spacing;

/// The aggregated test of Schrab and others: rejects when MMD^2 of one of many kernels is above its own
/// `1 - u w` quantile, u chosen such that this happens with probability at most the level.
///
/// The observed samples and B1 draws give the quantiles, B2 more draws give u. No bisection is needed: with p-values `p_k = #{first draws >= M_k} / (1 + B1)`, a kernel rejects exactly when
/// `p_k <= u w_k`, so with `u = min_k p_k / w_k` of the samples and of every second draw
///
/// ```text
/// p = (1 + #{second draws with u_b <= u}) / (1 + B2)
/// ```
///
/// is the smallest level at which the test rejects. The published plan divides the count by B2,
/// without the observed samples; counting them costs at most 1 / (1 + B2), and the level is kept at every
/// B2. Statistics are unbiased, and all kernels and draws take one pass. Samples of one size get random
/// signs (then points i of both do not meet), others permutations; see [`MmdAgg::permutations`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{MmdAgg, Resampling};
/// let x = Tensor::arange(0f32, 30.0, &Device::Cpu)?.reshape((30, 1))?;
/// let y = (&x * 0.2)?;
/// let test = MmdAgg::over_distances(&x, &y, 5, Resampling::seeded(1).draws(500))?;
/// let found = test.test(&x, &y)?;
/// assert!(found.rejected && found.kernels.len() == 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Schrab and others, MMD aggregated two-sample test, JMLR 2023, algorithm 1.
#[derive(Clone, Debug)]
pub struct MmdAgg {
    kernels: Vec<Kernel>,
    weights: Vec<f64>,
    resampling: Resampling,
    permutations: bool,
}

/// The outcome of [`MmdAgg`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AggregatedOutcome {
    /// The least of the adjusted p-values.
    pub p_value: f64,
    /// Whether the p-value is at most the level.
    pub rejected: bool,
    /// The level.
    pub level: f64,
    /// Draws in all, B1 + B2.
    pub draws: usize,
    /// The kernels in the order given.
    pub kernels: Vec<AggregatedKernel>,
}

/// The outcome of [`MmdAgg`] for one kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AggregatedKernel {
    /// Unbiased MMD^2.
    pub statistic: f64,
    /// The p-value of a test with this kernel alone.
    pub p_value: f64,
    /// The smallest level at which this kernel makes the aggregated test reject.
    pub adjusted: f64,
}

impl MmdAgg {
    /// Over given kernels, all of one weight; `B1 = B2 =` the number of draws (500 in the paper).
    ///
    /// For the level to be kept, kernels must not depend on which point is in which sample.
    pub fn new(kernels: Vec<Kernel>, resampling: Resampling) -> Self {
        Self {
            weights: vec![1.0 / kernels.len().max(1) as f64; kernels.len()],
            kernels,
            resampling,
            permutations: false,
        }
    }

    /// Over `bandwidths` each of the paper's Gaussian `exp(-|a - b|^2 / b^2)`, which is
    /// [`Kernel::gaussian_length_scale`] of `b / sqrt 2`, and Laplace `exp(-|a - b|_1 / b)`.
    ///
    /// The b are spaced evenly in the logarithm, from half the 5% to twice the 95% quantile of the
    /// distances (Euclidean or city block) of different pooled points, or of a random 2000 of more points.
    ///
    /// # Errors
    /// When samples are not as [`MmdAgg::test`] takes them, all points are equal, or `bandwidths` is 0.
    pub fn over_distances(
        x: &Tensor,
        y: &Tensor,
        bandwidths: usize,
        resampling: Resampling,
    ) -> Result<Self> {
        let scale = std::f64::consts::FRAC_1_SQRT_2;
        let grid = (bandwidths, Spacing::Logarithmic);
        let kernels = kernels_over_distances((x, y), grid, resampling.seed, scale)?;
        Ok(Self::new(kernels, resampling))
    }

    /// Shares of the level, one a kernel: positive, with a sum of at most 1.
    ///
    /// # Errors
    /// When a share is not positive, the sum exceeds 1, or there is not one a kernel.
    pub fn weights(self, weights: Vec<f64>) -> Result<Self> {
        if weights.len() != self.kernels.len() {
            let remedy = format!("must be {}, one a kernel", self.kernels.len());
            return Err(Error::value("number of weights", weights.len(), remedy));
        }
        if let Some(bad) = weights.iter().find(|w| w.is_nan() || **w <= 0.0) {
            return Err(Error::value("weight", bad, "must be positive"));
        }
        let total: f64 = weights.iter().sum();
        match total <= 1.0 + 1e-9 {
            true => Ok(Self { weights, ..self }),
            false => Err(Error::value("sum of weights", total, "must be at most 1")),
        }
    }

    /// Uses permutations for samples of equal size too.
    #[must_use]
    pub fn permutations(self) -> Self {
        Self {
            permutations: true,
            ..self
        }
    }

    /// Tests two samples.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d) in f32 or f64; n, m >= 2.
    ///
    /// # Errors
    /// When there is no kernel, shapes or dtypes differ, an entry is not finite, sums overflow, or a
    /// setting is out of range.
    pub fn test(&self, x: &Tensor, y: &Tensor) -> Result<AggregatedOutcome> {
        self.resampling.check()?;
        with_real!("x", x, T => self.run::<T>(x, y))
    }

    fn run<T: Real>(&self, x: &Tensor, y: &Tensor) -> Result<AggregatedOutcome> {
        let pooled = TwoSamples::<T>::new(&self.kernels, Estimator::Unbiased, (x, y))?;
        let relabelling = match pooled.sizes.0 == pooled.sizes.1 && !self.permutations {
            true => Relabelling::Signs,
            false => Relabelling::Permutations,
        };
        let total = 2 * self.resampling.draws + 1;
        let limit = pooled.layout.limit::<T>();
        let mut values: Vec<Vec<f64>> = vec![Vec::with_capacity(total); self.kernels.len()];
        let mut tolerances = Vec::new();
        for start in (0..total).step_by(limit) {
            let numbers = start..(start + limit).min(total);
            let found = pooled.drawn(relabelling, self.resampling.seed, numbers)?;
            let parts = values.iter_mut().zip(found.values);
            parts.for_each(|(all, part)| all.extend(part));
            tolerances = found.tolerances;
        }
        Ok(self.aggregate(&values, &tolerances))
    }

    /// The outcome, given the observed statistic, B1 first and B2 second draws of every kernel.
    pub(super) fn aggregate(&self, values: &[Vec<f64>], tolerances: &[f64]) -> AggregatedOutcome {
        let first = self.resampling.draws;
        let mut least = vec![f64::INFINITY; first];
        let mut own = Vec::new();
        for ((values, tolerance), weight) in values.iter().zip(tolerances).zip(&self.weights) {
            let mut sorted = values[..=first].to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let share = |v: f64| {
                let below = sorted.partition_point(|s| *s < v - tolerance);
                (sorted.len() - below) as f64 / sorted.len() as f64
            };
            own.push((share(values[0]), share(values[0]) / weight));
            let second = least.iter_mut().zip(&values[first + 1..]);
            second.for_each(|(u, v)| *u = u.min(share(*v) / weight));
        }
        least.sort_unstable_by(f64::total_cmp);
        let adjust = |u: f64| {
            let reached = least.partition_point(|b| *b <= u * (1.0 + 1e-12));
            (1 + reached) as f64 / (1 + least.len()) as f64
        };
        let kernels = own
            .iter()
            .zip(values)
            .map(|((p, u), values)| AggregatedKernel {
                statistic: values[0],
                p_value: *p,
                adjusted: adjust(*u),
            });
        let kernels: Vec<AggregatedKernel> = kernels.collect();
        let p_value = kernels.iter().map(|k| k.adjusted).fold(1.0, f64::min);
        AggregatedOutcome {
            p_value,
            rejected: p_value <= self.resampling.level + 1e-12,
            level: self.resampling.level,
            draws: 2 * first,
            kernels,
        }
    }
}
