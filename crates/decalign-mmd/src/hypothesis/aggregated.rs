//! Many kernels, one level: MMDAgg.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result, with_real};

use super::collection::{Spacing, gaussian_and_laplace};
use super::outcome::Resampling;
use super::pooled::Pooled;
use super::scheme::Scheme;
use crate::estimator::Estimator;
use crate::kernel::Kernel;

/// The aggregated test of Schrab and others: rejects when MMD^2 of one of many kernels is above its own
/// `1 - u w` quantile, u chosen such that this happens with probability at most the level.
///
/// Of B1 draws and the observed samples come the quantiles, of B2 more the choice of u. No bisection is
/// needed: with p-values `p_k = #{first draws >= M_k} / (1 + B1)`, a kernel rejects exactly when
/// `p_k <= u w_k`, so with `u = min_k p_k / w_k` of the samples and of every second draw
///
/// ```text
/// p = (1 + #{second draws with u_b <= u}) / (1 + B2)
/// ```
///
/// is the smallest level at which the test rejects. The published program divides the count by B2,
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

/// What [`MmdAgg`] found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Aggregated {
    /// The least of the adjusted p-values.
    pub p_value: f64,
    /// Whether the p-value is at most the level.
    pub rejected: bool,
    /// The level.
    pub level: f64,
    /// Draws in all, B1 + B2.
    pub draws: usize,
    /// In the order given.
    pub kernels: Vec<AggregatedKernel>,
}

/// What [`MmdAgg`] found with one kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AggregatedKernel {
    /// Unbiased MMD^2.
    pub statistic: f64,
    /// As if this were the only kernel.
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
    /// distances (Euclidean or city block) of different pooled points. Of more than 2000 points a random
    /// 2000 are taken; the level is then kept as their quantiles are those of all.
    ///
    /// # Errors
    /// When samples are not as [`MmdAgg::test`] takes them, all points are equal, or `bandwidths` is 0.
    pub fn over_distances(
        x: &Tensor,
        y: &Tensor,
        bandwidths: usize,
        resampling: Resampling,
    ) -> Result<Self> {
        let (euclidean, city) =
            gaussian_and_laplace((x, y), bandwidths, Spacing::Logarithmic, resampling.seed)?;
        let gaussian = euclidean
            .into_iter()
            .map(|b| Kernel::gaussian_length_scale(b * std::f64::consts::FRAC_1_SQRT_2));
        let laplace = city.into_iter().map(Kernel::laplace);
        Ok(Self::new(
            gaussian.chain(laplace).collect::<Result<_>>()?,
            resampling,
        ))
    }

    /// How much of the level a kernel may use: positive, with a sum of at most 1.
    ///
    /// # Errors
    /// When that does not hold or there is not one a kernel.
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

    /// Takes permutations for samples of one size too.
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
    pub fn test(&self, x: &Tensor, y: &Tensor) -> Result<Aggregated> {
        self.resampling.check()?;
        with_real!("x", x, T => self.run::<T>(x, y))
    }

    fn run<T: Real>(&self, x: &Tensor, y: &Tensor) -> Result<Aggregated> {
        let pooled = Pooled::<T>::new(&self.kernels, Estimator::Unbiased, (x, y))?;
        let scheme = match pooled.sizes.0 == pooled.sizes.1 && !self.permutations {
            true => Scheme::Signs,
            false => Scheme::Permutations,
        };
        let total = 2 * self.resampling.draws + 1;
        let limit = pooled.layout.limit::<T>();
        let mut values: Vec<Vec<f64>> = vec![Vec::with_capacity(total); self.kernels.len()];
        let mut tolerances = Vec::new();
        for start in (0..total).step_by(limit) {
            let count = limit.min(total - start);
            let found = pooled.statistics(scheme, count, |i| {
                scheme.vector(pooled.sizes, self.resampling.seed, start + i)
            })?;
            let parts = values.iter_mut().zip(found.values);
            parts.for_each(|(all, part)| all.extend(part));
            tolerances = found.tolerances;
        }
        Ok(self.aggregate(&values, &tolerances))
    }

    /// `values`: of every kernel the observed statistic, B1 first and B2 second draws.
    fn aggregate(&self, values: &[Vec<f64>], tolerances: &[f64]) -> Aggregated {
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
        Aggregated {
            p_value,
            rejected: p_value <= self.resampling.level + 1e-12,
            level: self.resampling.level,
            draws: 2 * first,
            kernels,
        }
    }
}

#[cfg(test)]
mod tests {
    use decalign_core::random::Stream;

    use super::*;

    /// Algorithm 1 as it stands: whether it rejects, by bisection.
    fn by_bisection(values: &[Vec<f64>], weights: &[f64], draws: usize, level: f64) -> bool {
        let sorted = |v: &Vec<f64>| {
            let mut first = v[..=draws].to_vec();
            first.sort_unstable_by(f64::total_cmp);
            first
        };
        let sorted: Vec<Vec<f64>> = values.iter().map(sorted).collect();
        let above = |u: f64, b: usize| {
            (0..values.len()).any(|k| {
                let place = (draws + 1) as f64 * (1.0 - u * weights[k]);
                let place = place.ceil().max(1.0) as usize - 1;
                values[k][b] > sorted[k][place]
            })
        };
        let (mut low, mut high) = (
            0.0,
            weights.iter().fold(f64::INFINITY, |a, w| a.min(1.0 / w)),
        );
        for _ in 0..60 {
            let u = 0.5 * (low + high);
            let count = (draws + 1..2 * draws + 1).filter(|b| above(u, *b)).count();
            match count as f64 / draws as f64 <= level {
                true => low = u,
                false => high = u,
            }
        }
        above(low, 0)
    }

    #[test]
    fn ranks_decide_as_bisection_does() -> Result<()> {
        let draws = 40;
        let kernel = Kernel::gaussian_length_scale(1.0)?;
        let mut rejected = 0;
        for case in 0..300 {
            // Of three kernels that agree in part, the observed statistic raised at random.
            let stream = Stream::new(2, case);
            let common = stream.child(9).normal(2 * draws + 1);
            let values: Vec<Vec<f64>> = (0..3)
                .map(|k| {
                    let mut own = stream.child(k).normal(2 * draws + 1);
                    own.iter_mut().zip(&common).for_each(|(v, c)| *v += c);
                    own[0] += 3.0 * (case % 3) as f64 * (k as f64 - 0.5).abs();
                    own
                })
                .collect();
            let weights = vec![0.5, 0.3, 0.2];
            let test = MmdAgg::new(vec![kernel.clone(); 3], Resampling::seeded(0).draws(draws));
            let test = test.weights(weights.clone())?;
            let found = test.aggregate(&values, &[0.0; 3]);
            let reached = found.p_value * (1 + draws) as f64 - 1.0;
            let published = reached / draws as f64 <= 0.05 + 1e-9;
            assert_eq!(
                published,
                by_bisection(&values, &weights, draws, 0.05),
                "{case}"
            );
            assert!(published || !found.rejected);
            rejected += usize::from(published);
        }
        assert!((20..280).contains(&rejected), "{rejected}");
        Ok(())
    }
}
