//! The numbers of a batch of problems, and gradients with respect to its tensors.

use candle_core::{Device, Tensor};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, Result, parallel};

use super::problem::MultiMarginalProblem;
use crate::tensor_convert::read;

/// The numbers of one tensor, for each problem or shared by all.
pub(super) struct BatchTensor<T> {
    data: Vec<T>,
    each: usize,
    shared: bool,
}

impl<T: Real> BatchTensor<T> {
    pub(super) fn read(x: &Tensor, each: usize) -> Result<Self> {
        let data = read::<T>(x)?;
        let shared = data.len() == each;
        Ok(Self { data, each, shared })
    }

    /// The numbers of problem `b`.
    pub(super) fn of(&self, b: usize) -> &[T] {
        match self.shared {
            true => &self.data,
            false => &self.data[b * self.each..][..self.each],
        }
    }
}

impl BatchTensor<f64> {
    /// The first entry that is NaN or infinite.
    pub(super) fn first_infinite(&self) -> Option<(usize, f64)> {
        let mut all = self.data.iter().copied().enumerate();
        all.find(|(_, v)| !v.is_finite())
    }
}

/// The numbers of all tensors of a batch.
pub(super) struct BatchInputs<T> {
    marginals: Vec<BatchTensor<T>>,
    costs: Vec<BatchTensor<T>>,
}

impl<T: Real> BatchInputs<T> {
    pub(super) fn read(problem: &MultiMarginalProblem) -> Result<Self> {
        let marginals = problem.marginals.iter().zip(&problem.sizes);
        let costs = problem.costs.iter().enumerate();
        Ok(Self {
            marginals: marginals
                .map(|(x, k)| BatchTensor::read(x, *k))
                .collect::<Result<_>>()?,
            costs: costs
                .map(|(i, x)| BatchTensor::read(x, problem.cost_shape(i).iter().product()))
                .collect::<Result<_>>()?,
        })
    }

    /// The weights of problem `b`.
    pub(super) fn marginals(&self, b: usize) -> impl Iterator<Item = &[T]> {
        self.marginals.iter().map(move |x| x.of(b))
    }

    /// The costs of problem `b`.
    pub(super) fn costs(&self, b: usize) -> Vec<&[T]> {
        self.costs.iter().map(|x| x.of(b)).collect()
    }

    /// Whether every problem has the same costs.
    pub(super) fn costs_are_shared(&self) -> bool {
        self.costs.iter().all(|x| x.shared)
    }
}

/// Records one value for each problem, with gradients with respect to marginals and costs.
///
/// `gradients(b, outer)` returns those of problem `b` times `outer`, in the order of
/// [`MultiMarginalProblem::inputs`]; `work` is the number of operations that takes.
pub(super) fn record_values<T: Real>(
    name: &'static str,
    problem: &MultiMarginalProblem,
    values: Vec<T>,
    work: usize,
    gradients: impl Fn(usize, T) -> Vec<Vec<T>> + Send + Sync + 'static,
) -> Result<Tensor> {
    let device = problem.marginals[0].device();
    // The operation is recorded on the CPU; Candle differentiates the copies there and back.
    let inputs = problem
        .inputs()
        .into_iter()
        .map(|x| x.to_device(&Device::Cpu))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let output = match problem.batch {
        None => Output::new(values, ()),
        Some(n) => Output::new(values, n),
    };
    let count = problem.count();
    let value = record_one(name, &inputs, output, move |b| {
        let outer = b.gradient(0)?;
        let outer = Elements::<T>::new(&outer)?.to_vec();
        let all = parallel::map(count, count * work, |i| gradients(i, outer[i]));
        let each = b.inputs.iter().enumerate().map(|(i, x)| {
            let gathered = gather(all.iter().map(|g| &g[i][..]), x.elem_count());
            Ok(Some(Tensor::from_vec(gathered, x.dims(), x.device())?))
        });
        each.collect()
    })?;
    Ok(value.to_device(device)?)
}

/// The gradients of a tensor of `n` numbers: those of all problems concatenated, or their sum where the problems share
/// the tensor.
fn gather<'a, T: Real>(each: impl Iterator<Item = &'a [T]>, n: usize) -> Vec<T> {
    let mut all: Vec<T> = Vec::with_capacity(n);
    for x in each {
        if all.len() < n {
            all.extend_from_slice(x);
        } else {
            all.iter_mut().zip(x).for_each(|(sum, v)| *sum += *v);
        }
    }
    all
}
