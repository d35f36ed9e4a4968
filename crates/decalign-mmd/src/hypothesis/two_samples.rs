//! Two pooled samples, and MMD^2 of many relabellings of them.

use std::ops::Range;

use candle_core::{Device, Tensor};
use decalign_core::{Error, Real, Result};

use super::label_vectors::{LabelVectors, PaddedLayout};
use super::outcome::Batch;
use super::quadratic_forms::{CountedPairs, quadratic_forms};
use super::relabelling::{Relabelling, other};
use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::pairwise::{Inputs, KernelPlan, PooledSamples};
use crate::sample::Sample;

/// Two pooled samples under test.
pub(crate) struct TwoSamples<T> {
    pub(crate) pool: PooledSamples<T>,
    pub(crate) layout: PaddedLayout,
    pub(crate) sizes: (usize, usize),
    estimator: Estimator,
}

/// MMD^2 of some label vectors; every field has an entry a kernel.
pub(crate) struct Statistics {
    /// MMD^2 of every vector.
    pub(crate) values: Vec<Vec<f64>>,
    /// Bounds of their rounding errors.
    pub(crate) tolerances: Vec<f64>,
    /// The sum of squares of the kernel matrix without its diagonal.
    pub(crate) squares: Vec<f64>,
}

/// The rounding error of a statistic in units of rounding errors of kernel values times (1/n + 1/m).
const ROUNDINGS: f64 = 128.0;

impl Statistics {
    /// Those of the first kernel.
    pub(crate) fn into_batch(mut self) -> Batch {
        Batch {
            values: self.values.swap_remove(0),
            tolerance: self.tolerances[0],
        }
    }
}

impl<T: Real> TwoSamples<T> {
    pub(crate) fn new(
        kernels: &[Kernel],
        estimator: Estimator,
        (x, y): (&Tensor, &Tensor),
    ) -> Result<Self> {
        if kernels.is_empty() {
            let remedy = "at least one is needed";
            return Err(Error::value("number of kernels", 0, remedy));
        }
        let plan = KernelPlan::new(kernels, true);
        let samples = [Sample::from(&on_cpu(x)?), Sample::from(&on_cpu(y)?)];
        let inputs = Inputs::new(&samples, &plan, (2, estimator.min_points()))?;
        let pool = PooledSamples::new(&inputs, plan, false)?;
        Ok(Self {
            layout: PaddedLayout::new(&pool),
            pool,
            sizes: (x.dims()[0], y.dims()[0]),
            estimator,
        })
    }

    /// MMD^2 of the relabellings of some numbers, in one pass.
    pub(crate) fn drawn(
        &self,
        relabelling: Relabelling,
        seed: u64,
        numbers: Range<usize>,
    ) -> Result<Statistics> {
        self.statistics(relabelling, numbers.len(), |i| {
            relabelling.vector(self.sizes, seed, numbers.start + i)
        })
    }

    /// MMD^2 of `count` label vectors, in one pass.
    pub(crate) fn statistics(
        &self,
        relabelling: Relabelling,
        count: usize,
        vector: impl Fn(usize) -> Vec<T> + Sync + Send,
    ) -> Result<Statistics> {
        let vectors = LabelVectors::new(&self.layout, count, vector);
        let pairs = CountedPairs {
            diagonal: self.estimator == Estimator::Biased,
            exclude_paired: self.estimator == Estimator::Unbiased
                && relabelling != Relabelling::Permutations,
        };
        let ones = self.layout.spread(&vec![T::one(); self.layout.points()]);
        let found = quadratic_forms(&self.pool, &self.layout, &vectors, &ones, pairs)?;
        let (n, m) = (self.sizes.0 as f64, self.sizes.1 as f64);
        let mut statistics = Statistics {
            values: Vec::new(),
            tolerances: Vec::new(),
            squares: found.squares,
        };
        for (q, forms) in found.values.into_iter().enumerate() {
            let values = match (self.estimator, relabelling) {
                (Estimator::Biased, _) => forms.iter().map(|f| (f / (n * n)).max(0.0)).collect(),
                (Estimator::Unbiased, Relabelling::Permutations) => {
                    self.unbiased(&forms, &vectors, &found.rows[q])
                }
                (Estimator::Unbiased, _) => forms.iter().map(|f| f / (n * (n - 1.0))).collect(),
            };
            statistics.values.push(values);
            let size = statistics.squares[q].sqrt() / (n + m);
            let eps = T::epsilon().as_f64();
            let tolerance = ROUNDINGS * eps * size * (1.0 / n + 1.0 / m);
            statistics.tolerances.push(tolerance);
        }
        Ok(statistics)
    }

    /// Given F = v^T K v and u = K 1, K without its diagonal: with A, C the sums of K within the first
    /// and the second sample and B between them, r = n / m,
    ///
    /// ```text
    /// F = A + r^2 C - 2 r B,   sum_(i in first) u_i = A + B,   sum_(i in second) u_i = C + B.
    /// ```
    fn unbiased(&self, forms: &[f64], vectors: &LabelVectors<T>, u: &[f64]) -> Vec<f64> {
        let (n, m) = (self.sizes.0 as f64, self.sizes.1 as f64);
        let r = -other::<T>(self.sizes).as_f64();
        let total: f64 = u.iter().sum();
        let within = |f: f64, first: f64| {
            let second = total - first;
            let between = (first + r * r * second - f) / ((1.0 + r) * (1.0 + r));
            let (a, c) = (first - between, second - between);
            f / (n * n) + a / (n * n * (n - 1.0)) + c / (m * m * (m - 1.0))
        };
        // For equal sizes only A + C matters, which F and the total give.
        if self.sizes.0 == self.sizes.1 {
            return forms.iter().map(|f| within(*f, total / 2.0)).collect();
        }
        let dots = vectors.dots(&self.layout, u);
        let firsts = dots.iter().map(|dot| (dot + r * total) / (1.0 + r));
        forms
            .iter()
            .zip(firsts)
            .map(|(f, l)| within(*f, l))
            .collect()
    }
}

/// The tensor on the CPU, without gradients.
pub(crate) fn on_cpu(x: &Tensor) -> Result<Tensor> {
    Ok(x.detach().to_device(&Device::Cpu)?)
}

/// Checks that the samples are of the same size.
pub(crate) fn check_paired(x: &Tensor, y: &Tensor) -> Result<()> {
    match (x.dims(), y.dims()) {
        ([n, _], [m, _]) if n != m => {
            let remedy = format!("must be {n}, the size of the first sample: points are paired");
            Err(Error::value(
                "number of points of the second sample",
                m,
                remedy,
            ))
        }
        _ => Ok(()),
    }
}
