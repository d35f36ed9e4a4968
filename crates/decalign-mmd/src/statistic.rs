//! Linear combinations of kernel means, with gradients.

use candle_core::{Shape, Tensor};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::pairwise::{
    Coefficient, Inputs, KernelPlan, PairwiseGradients, PooledSamples, Sum, Target,
};
use crate::sample::Sample;

/// `sum_i within_i mean k(x_i, x_i') + sum_ij across_ij mean k(x_i, x_j)`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functional {
    pub(crate) within: Vec<(usize, f64)>,
    /// Pairs i < j.
    pub(crate) across: Vec<(usize, usize, f64)>,
}

impl Functional {
    /// `MMD^2` of samples i < j, times a factor.
    pub(crate) fn mmd(i: usize, j: usize, factor: f64) -> Self {
        Self {
            within: vec![(i, factor), (j, factor)],
            across: vec![(i, j, -2.0 * factor)],
        }
    }

    /// The mean of `MMD^2` over all pairs of `m` samples.
    pub(crate) fn mean_over_pairs(m: usize) -> Self {
        let pairs = (m * (m - 1) / 2) as f64;
        let across = (0..m).flat_map(|j| (0..j).map(move |i| (i, j, -2.0 / pairs)));
        Self {
            within: (0..m).map(|i| (i, 2.0 / m as f64)).collect(),
            across: across.collect(),
        }
    }
}

/// Functionals of the means of some kernels.
#[derive(Clone, Debug)]
pub(crate) struct Statistic {
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) estimator: Estimator,
    pub(crate) functionals: Vec<Functional>,
    /// Values are squared distances: biased ones are clamped at 0 against rounding.
    pub(crate) squares: bool,
    /// The result is one number without dimensions.
    pub(crate) scalar: bool,
}

impl Statistic {
    /// Every functional of every kernel, kernel after kernel: `kernels.len() * functionals.len()`
    /// numbers. The samples are on the CPU.
    pub(crate) fn evaluate(self, samples: &[Sample]) -> Result<Tensor> {
        // With unequal weights the unbiased means do not cancel the origin of a linear kernel.
        let weighted = samples.iter().any(|s| s.weights.is_some());
        let differences = self.estimator == Estimator::Biased || !weighted;
        let plan = KernelPlan::new(&self.kernels, differences);
        let inputs = Inputs::new(samples, &plan, (2, self.estimator.min_points()))?;
        with_real!("samples", inputs.points[0], T => self.fused::<T>(inputs, plan))
    }

    /// The pairs of samples that the functionals need, in order.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let within = self.functionals.iter().flat_map(|f| &f.within);
        let across = self.functionals.iter().flat_map(|f| &f.across);
        let mut pairs: Vec<(usize, usize)> = within.map(|(i, _)| (*i, *i)).collect();
        pairs.extend(across.map(|(i, j, _)| (*i, *j)));
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// The gradients of the outputs with the kernel and the functional that each belongs to.
    fn outputs<'a>(
        &'a self,
        outer: &'a [f64],
    ) -> impl Iterator<Item = (usize, &'a Functional, f64)> {
        let count = self.functionals.len();
        let each = outer.iter().enumerate();
        each.map(move |(at, outer)| (at / count, &self.functionals[at % count], *outer))
    }

    fn fused<T: Real>(self, inputs: Inputs, plan: KernelPlan) -> Result<Tensor> {
        let all: Vec<Tensor> = inputs.all(&self.kernels).into_iter().cloned().collect();
        let references: Vec<&Tensor> = all.iter().collect();
        let wanted = all.iter().any(Tensor::track_op);
        let weighted = inputs.weights.iter().flatten().any(Tensor::track_op);
        let outputs = self.kernels.len() * self.functionals.len();
        let pool = PooledSamples::<T>::new(&inputs, plan, wanted)?;
        let means = Means::new(&self, &pool)?;
        // The gradient of one number is known up to a factor: compute it in the same pass.
        let (sums, ready) = match wanted && outputs == 1 {
            true => {
                let coefficients = means.coefficients(&self, &[1.0]);
                let target = Target::Sums(&coefficients);
                let mut found = pool.backward(&means.pairs, &target, weighted)?;
                (std::mem::take(&mut found.sums), Some(found))
            }
            false => (pool.sums(&means.pairs)?, None),
        };
        let values = means.values(&self, &sums);
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            let remedy = "must be finite: distances or powers overflow; scale the samples down";
            return Err(Error::value("a kernel sum", bad, remedy));
        }
        let shape = match self.scalar {
            true => Shape::from(()),
            false => Shape::from(outputs),
        };
        let output = Output::new(values.into_iter().map(T::of).collect(), shape);
        record_one("mmd", &references, output, move |b| {
            let outer = b.gradient(0)?;
            let outer: Vec<f64> = Elements::<T>::new(&outer)?
                .iter()
                .map(|v| v.as_f64())
                .collect();
            let again;
            let (found, factor, outer) = match &ready {
                Some(found) => (found, outer[0], vec![1.0]),
                None => {
                    let coefficients = means.coefficients(&self, &outer);
                    again = pool.backward(&means.pairs, &Target::Sums(&coefficients), weighted)?;
                    (&again, 1.0, outer)
                }
            };
            let masses = means.masses(&self, &sums, &outer);
            self.gradients(&inputs, (&pool, found), &masses, factor, b.inputs)
        })
    }

    /// Gradients as tensors, in the order of [`Inputs::all`].
    fn gradients<T: Real>(
        &self,
        inputs: &Inputs,
        (pool, found): (&PooledSamples<T>, &PairwiseGradients<T>),
        masses: &[(f64, f64)],
        factor: f64,
        like: &[Tensor],
    ) -> Result<Vec<Option<Tensor>>> {
        let mut gradients = Vec::with_capacity(like.len());
        let scale = T::of(factor);
        for rows in found.points.iter().chain(&found.directions) {
            let like = &like[gradients.len()];
            let rows: Vec<T> = rows.iter().map(|v| *v * scale).collect();
            gradients.push(Some(Tensor::from_vec(rows, like.dims(), like.device())?));
        }
        for (i, w) in inputs.weights.iter().enumerate() {
            let Some(w) = w else { continue };
            let own = pool.blocks_of(i).flat_map(|b| {
                let n = pool.blocks[b].len;
                pool.weights[b][..n].iter()
            });
            let (mass, square) = masses[i];
            let each = found.weights[i]
                .iter()
                .zip(own)
                .map(|(g, a)| T::of(factor * (g.as_f64() + mass + 2.0 * square * a.as_f64())));
            let each: Vec<T> = each.collect();
            let gradient = match each.is_empty() {
                true => None,
                false => Some(Tensor::from_vec(each, w.dims(), w.device())?),
            };
            gradients.push(gradient);
        }
        gradients.extend(bandwidth_gradients(
            &self.kernels,
            &found.bandwidths,
            factor,
        )?);
        Ok(gradients)
    }
}

/// Gradients with respect to the learned bandwidths of kernels, given `sum W u` of every leaf.
pub(crate) fn bandwidth_gradients(
    kernels: &[Kernel],
    sums: &[f64],
    factor: f64,
) -> Result<Vec<Option<Tensor>>> {
    let mut gradients = Vec::new();
    for (leaf, sum) in kernels.iter().flat_map(Kernel::leaves).zip(sums) {
        let Some(tensor) = leaf.bandwidth.tensor() else {
            continue;
        };
        // The kernel is a function of u / bandwidth^power.
        let slope = -leaf.family.power() / leaf.bandwidth.value() * sum * factor;
        let gradient = Tensor::full(slope, tensor.dims(), tensor.device())?;
        gradients.push(Some(gradient.to_dtype(tensor.dtype())?));
    }
    Ok(gradients)
}

/// Kernel means of the pairs of samples that some functionals need.
struct Means {
    pairs: Vec<(usize, usize)>,
    /// The sums of the weights and of their squares, of every sample.
    masses: Vec<(f64, f64)>,
}

impl Means {
    fn new<T: Real>(statistic: &Statistic, pool: &PooledSamples<T>) -> Result<Self> {
        let pairs = statistic.pairs();
        let masses = pool.masses.clone();
        for (i, (mass, square)) in masses.iter().enumerate() {
            let left = mass * mass - square;
            if statistic.estimator == Estimator::Unbiased && left <= 1e-12 * mass * mass {
                let name = format!("the number of points of sample {i} with positive weight");
                return Err(Error::value(name, 1, "the unbiased estimator needs two"));
            }
        }
        Ok(Self { pairs, masses })
    }

    fn place(&self, i: usize, j: usize) -> usize {
        self.pairs.binary_search(&(i, j)).unwrap_or(0)
    }

    /// The divisor of a mean within sample i, and the weight of its diagonal.
    fn divisor(&self, i: usize, estimator: Estimator) -> (f64, f64) {
        let (mass, square) = self.masses[i];
        match estimator {
            Estimator::Biased => (mass * mass, 1.0),
            Estimator::Unbiased => (mass * mass - square, 0.0),
        }
    }

    /// The mean within sample i and across i and j, of kernel q.
    fn within(&self, i: usize, q: usize, estimator: Estimator, sums: &[Vec<Sum>]) -> f64 {
        let (divisor, diagonal) = self.divisor(i, estimator);
        let sum = sums[self.place(i, i)][q];
        (2.0 * sum.pairs + diagonal * sum.diagonal) / divisor
    }

    fn across(&self, i: usize, j: usize, q: usize, sums: &[Vec<Sum>]) -> f64 {
        sums[self.place(i, j)][q].pairs / (self.masses[i].0 * self.masses[j].0)
    }

    fn values(&self, statistic: &Statistic, sums: &[Vec<Sum>]) -> Vec<f64> {
        let mut values = Vec::new();
        for q in 0..statistic.kernels.len() {
            for f in &statistic.functionals {
                let within = f
                    .within
                    .iter()
                    .map(|(i, c)| c * self.within(*i, q, statistic.estimator, sums));
                let across = f
                    .across
                    .iter()
                    .map(|(i, j, c)| c * self.across(*i, *j, q, sums));
                let value = within.sum::<f64>() + across.sum::<f64>();
                let floor = statistic.squares && statistic.estimator == Estimator::Biased;
                values.push(if floor && value < 0.0 { 0.0 } else { value });
            }
        }
        values
    }

    /// The coefficients of the sums, given the gradient of every value.
    fn coefficients(&self, statistic: &Statistic, outer: &[f64]) -> Vec<Vec<Coefficient>> {
        let kernels = statistic.kernels.len();
        let mut all = vec![vec![Coefficient::default(); kernels]; self.pairs.len()];
        for (q, f, outer) in statistic.outputs(outer) {
            for (i, c) in &f.within {
                let (divisor, diagonal) = self.divisor(*i, statistic.estimator);
                let to = &mut all[self.place(*i, *i)][q];
                to.pairs += outer * c * 2.0 / divisor;
                to.diagonal += outer * c * diagonal / divisor;
            }
            for (i, j, c) in &f.across {
                let to = &mut all[self.place(*i, *j)][q];
                to.pairs += outer * c / (self.masses[*i].0 * self.masses[*j].0);
            }
        }
        all
    }

    /// The gradient with respect to the sum of the weights of every sample, and of their squares.
    fn masses(&self, statistic: &Statistic, sums: &[Vec<Sum>], outer: &[f64]) -> Vec<(f64, f64)> {
        let mut gradients = vec![(0.0, 0.0); self.masses.len()];
        for (q, f, outer) in statistic.outputs(outer) {
            for (i, c) in &f.within {
                let (divisor, diagonal) = self.divisor(*i, statistic.estimator);
                let slope = outer * c * self.within(*i, q, statistic.estimator, sums) / divisor;
                gradients[*i].0 -= 2.0 * self.masses[*i].0 * slope;
                gradients[*i].1 += (1.0 - diagonal) * slope;
            }
            for (i, j, c) in &f.across {
                let value = outer * c * self.across(*i, *j, q, sums);
                gradients[*i].0 -= value / self.masses[*i].0;
                gradients[*j].0 -= value / self.masses[*j].0;
            }
        }
        gradients
    }
}
