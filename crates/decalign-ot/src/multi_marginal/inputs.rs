//! The numbers of a batch of problems, and the gradients back to its tensors.

use candle_core::{Device, Tensor};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, Result, parallel};

use super::problem::MultiMarginalProblem;
use crate::tensor_convert::read;

/// The numbers of one tensor: each problem's own, or shared by all.
pub(super) struct Numbers<T> {
    data: Vec<T>,
    each: usize,
    shared: bool,
}

impl<T: Real> Numbers<T> {
    pub(super) fn read(x: &Tensor, each: usize) -> Result<Self> {
        let data = read::<T>(x)?;
        let shared = data.len() == each;
        Ok(Self { data, each, shared })
    }

    /// Of problem `b`.
    pub(super) fn of(&self, b: usize) -> &[T] {
        match self.shared {
            true => &self.data,
            false => &self.data[b * self.each..][..self.each],
        }
    }
}

impl Numbers<f64> {
    /// The first entry that is NaN or infinite.
    pub(super) fn first_infinite(&self) -> Option<(usize, f64)> {
        let mut all = self.data.iter().copied().enumerate();
        all.find(|(_, v)| !v.is_finite())
    }
}

/// The numbers of all tensors of a batch.
pub(super) struct Inputs<T> {
    marginals: Vec<Numbers<T>>,
    costs: Vec<Numbers<T>>,
}

impl<T: Real> Inputs<T> {
    pub(super) fn read(problem: &MultiMarginalProblem) -> Result<Self> {
        let marginals = problem.marginals.iter().zip(&problem.sizes);
        let costs = problem.costs.iter().enumerate();
        Ok(Self {
            marginals: marginals
                .map(|(x, k)| Numbers::read(x, *k))
                .collect::<Result<_>>()?,
            costs: costs
                .map(|(i, x)| Numbers::read(x, problem.cost_shape(i).iter().product()))
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

/// A value a problem, with gradients with respect to marginals and costs.
///
/// `gradients(b, outer)` gives those of problem `b`, in the order of
/// [`MultiMarginalProblem::inputs`], times `outer`; `work` is its cost.
pub(super) fn record_values<T: Real>(
    name: &'static str,
    problem: &MultiMarginalProblem,
    values: Vec<T>,
    work: usize,
    gradients: impl Fn(usize, T) -> Vec<Vec<T>> + Send + Sync + 'static,
) -> Result<Tensor> {
    let device = problem.marginals[0].device();
    // Recorded on the CPU; the way there and back is differentiable too.
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

/// The gradients of a tensor of `n` numbers: one problem after the other, or their sum where all
/// problems share it.
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
