//! The power of permutation tests.

use candle_core::{Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Error, Real, Result, with_real};

use super::label_vectors::LabelVectors;
use super::outcome::{Resampling, Stopping, quantile};
use super::permutation::PermutationTest;
use super::quadratic_forms::{CountedPairs, quadratic_forms};
use super::relabelling::{Relabelling, choose};
use crate::estimator::Estimator;

/// The power of permutation tests of other sizes, estimated from two samples.
///
/// Unbiased MMD^2 of n and m points is approximately normal, with the mean of these samples and the variance
///
/// ```text
/// 4 var_x(u) / n + 4 var_y(u) / m + s^2 (1/n + 1/m)^2
/// u(z) = mean k(z, x') - mean k(z, y')
/// ```
///
/// Permutations give s and the critical value, which falls as 1/n + 1/m. The estimate is good where the observed
/// MMD^2 is many standard errors from 0, which is itself random.
///
/// ```
/// use candle_core::Tensor;
/// use decalign_core::random::Stream;
/// use decalign_mmd::{Kernel, Power, Resampling};
/// let x = Stream::new(1, 0).normal_tensor((60, 2))?;
/// let y = (Stream::new(1, 1).normal_tensor((60, 2))? + 0.8)?;
/// let power = Power::new(Kernel::gaussian_length_scale(1.0)?, &x, &y, Resampling::seeded(1))?;
/// assert!(power.at(60, 60) > 0.9 && power.at(10, 10) < 0.9);
/// let n = power.sample_size(0.9)?;
/// assert!(power.at(n, n) >= 0.9 && power.at(n - 1, n - 1) < 0.9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Gretton and others, JMLR 2012, theorem 8 and corollary 16; Sutherland and others, ICLR 2017.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Power {
    squared: f64,
    /// Four times the variance of u over either sample.
    variances: (f64, f64),
    /// The standard deviation under the null hypothesis and the value to exceed, over 1/n + 1/m.
    deviation: f64,
    threshold: f64,
}

impl Power {
    /// From two samples, in f32 or f64; the seed, the number of draws and the level are those of the
    /// permutation test.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d); n, m >= 2.
    ///
    /// # Errors
    /// As [`PermutationTest::test`].
    pub fn new(
        kernel: crate::Kernel,
        x: &Tensor,
        y: &Tensor,
        resampling: Resampling,
    ) -> Result<Self> {
        let test = PermutationTest::new(kernel, Estimator::Unbiased, resampling);
        let all = test.all(x, y)?;
        let unit = (x.dims()[0] as f64).recip() + (y.dims()[0] as f64).recip();
        let null = &all[1..];
        Ok(Self {
            squared: all[0],
            variances: with_real!("x", x, T => variances::<T>(&test, x, y))?,
            deviation: variance(null).sqrt() / unit,
            threshold: quantile(all, 1.0 - resampling.level) / unit,
        })
    }

    /// The observed MMD^2.
    pub fn squared(&self) -> f64 {
        self.squared
    }

    /// The variance of unbiased MMD^2 of n and m points, as above.
    pub fn variance(&self, n: usize, m: usize) -> f64 {
        let (n, m) = ((n.max(1) as f64).recip(), (m.max(1) as f64).recip());
        let null = self.deviation * (n + m);
        self.variances.0 * n + self.variances.1 * m + null * null
    }

    /// The probability that a test of n and m points rejects.
    pub fn at(&self, n: usize, m: usize) -> f64 {
        let unit = (n.max(1) as f64).recip() + (m.max(1) as f64).recip();
        let above = self.squared - self.threshold * unit;
        let deviation = self.variance(n, m).sqrt();
        match deviation > 0.0 {
            true => normal(above / deviation),
            false => f64::from(u8::from(above > 0.0)),
        }
    }

    /// The least number of points in each sample with which a test has at least the given power.
    ///
    /// # Errors
    /// When `power` is not between 0 and 1, or no number below 2^40 reaches it, as where the samples show
    /// no difference.
    pub fn sample_size(&self, power: f64) -> Result<usize> {
        if !(power > 0.0 && power < 1.0) {
            let remedy = "must lie between 0 and 1, both excluded";
            return Err(Error::value("power", power, remedy));
        }
        let enough = |n: usize| self.at(n, n) >= power;
        let mut high = 2;
        while !enough(high) {
            high *= 2;
            if high > 1 << 40 {
                let remedy = "is too small for any sample size: the samples show no difference";
                return Err(Error::value("MMD^2", self.squared, remedy));
            }
        }
        let mut low = (high / 2).max(1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match enough(middle) {
                true => high = middle,
                false => low = middle,
            }
        }
        Ok(high)
    }
}

/// Four times the variance of u over x and over y.
fn variances<T: Real>(test: &PermutationTest, x: &Tensor, y: &Tensor) -> Result<(f64, f64)> {
    let pooled = test.settings.pool::<T>(x, y)?;
    let (n, m) = pooled.sizes;
    // The diagonal is left out: means are over n - 1 points.
    let scale = T::of((n as f64 - 1.0).recip());
    let own: Vec<T> = Relabelling::Permutations.vector((n, m), 0, 0);
    let own: Vec<T> = own.into_iter().map(|v| v * scale).collect();
    let none = LabelVectors::new(&pooled.layout, 0, |_| Vec::new());
    let pairs = CountedPairs {
        diagonal: false,
        exclude_paired: false,
    };
    let g = pooled.layout.spread(&own);
    let rows = quadratic_forms(&pooled.pool, &pooled.layout, &none, &g, pairs)?.rows;
    let (first, second) = rows[0].split_at(n);
    Ok((4.0 * variance(first), 4.0 * variance(second)))
}

/// The sample variance, with n - 1 in the denominator.
fn variance(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|v| (v - mean) * (v - mean));
    squares.sum::<f64>() / (count - 1.0).max(1.0)
}

/// The normal distribution function.
pub(super) fn normal(z: f64) -> f64 {
    if z.abs() > 8.0 {
        return if z > 0.0 { 1.0 } else { 0.0 };
    }
    // Marsaglia (2004): the series of all odd powers over odd factorials.
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    (0.5 + sum * density).clamp(0.0, 1.0)
}

/// The share of tests that rejected subsamples of given samples.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SimulatedPower {
    /// The share of tests that rejected.
    pub power: f64,
    /// Its binomial standard error.
    pub standard_error: f64,
}

/// Names the streams of this module.
const STREAM: u64 = 0x706f_7765;

impl PermutationTest {
    /// The share of `repeats` tests that reject n and m points drawn without replacement from given samples.
    /// Drawing stops when a decision is certain, which does not change it.
    ///
    /// With sizes close to those given the subsamples are nearly equal, and the share is close to 0 or 1; see [`Power`]
    /// for larger sizes.
    ///
    /// # Shapes
    /// `x` (N, d), `y` (M, d); 1 <= n <= N, 1 <= m <= M, from 2 on for the unbiased estimator.
    ///
    /// # Errors
    /// As [`PermutationTest::test`], when sizes exceed those of the samples, or without repeats.
    pub fn simulated_power(
        &self,
        x: &Tensor,
        y: &Tensor,
        (n, m): (usize, usize),
        repeats: usize,
    ) -> Result<SimulatedPower> {
        if repeats == 0 {
            let remedy = "must be at least 1";
            return Err(Error::value("number of repeats", 0, remedy));
        }
        let settings = &self.settings;
        let seed = settings.resampling.seed;
        let mut rejected = 0;
        for repeat in 0..repeats as u64 {
            let stream = Stream::new(seed, STREAM).child(repeat);
            let resampling = Resampling {
                // Another seed each time, or all tests would share their relabellings.
                seed: seed ^ (repeat + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ..settings.resampling
            };
            let test = Self::new(settings.kernel.clone(), settings.estimator, resampling);
            let test = test.stopping(Stopping::WhenCertain);
            let found = test.test(&some(x, n, stream.child(0))?, &some(y, m, stream.child(1))?)?;
            rejected += usize::from(found.rejected);
        }
        let power = rejected as f64 / repeats as f64;
        Ok(SimulatedPower {
            power,
            standard_error: (power * (1.0 - power) / repeats as f64).sqrt(),
        })
    }
}

/// `count` rows, without replacement.
fn some(x: &Tensor, count: usize, stream: Stream) -> Result<Tensor> {
    let rows = match x.dims() {
        [rows, _] => *rows,
        _ => return Err(Error::tensor("sample", "shape (n, d)", x.shape())),
    };
    if count > rows {
        let remedy =
            format!("must be at most {rows}, the size of the sample: see Power for larger sizes");
        return Err(Error::value("number of points to draw", count, remedy));
    }
    let chosen = choose(rows, count, stream);
    let chosen: Vec<u32> = chosen.into_iter().map(|i| i as u32).collect();
    let chosen = Tensor::from_vec(chosen, count, &Device::Cpu)?.to_device(x.device())?;
    Ok(x.contiguous()?.index_select(&chosen, 0)?)
}
