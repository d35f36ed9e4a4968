//! Values alone, which a device computes without the host.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::Backend;

use super::MultiMarginalSinkhorn;
use super::device;
use super::problem::MultiMarginalProblem;
use crate::device::{JointInputs, LOG_DOMAIN, Source, solves};
use crate::reference;
use crate::schedule::solving_dtype;
use crate::value::TransportValue;

/// The problem as the inputs of a kernel, with gradients; built by Candle's operations where types change or the
/// marginals are too many for one launch.
pub(super) fn given(
    backend: &Backend,
    problem: &MultiMarginalProblem,
    (dtype, source): (DType, Source),
) -> Result<JointInputs> {
    if problem.marginals[0].dtype() == dtype
        && let Some(given) = device::joined(backend, problem, source)?
    {
        return Ok(given);
    }
    let batch = problem.count();
    let marginals = reference::marginals(problem)?;
    let cells: usize = problem.sizes.iter().product();
    let cost = reference::flat_cost(problem)?.broadcast_as((batch, cells))?;
    let weights = Tensor::cat(&marginals, 1)?.to_dtype(dtype)?;
    let cost = cost.contiguous()?.to_dtype(dtype)?;
    Ok(JointInputs::dense(&problem.sizes, weights, cost))
}

impl MultiMarginalSinkhorn {
    /// The value without the plan. On a device one launch runs all sweeps of a batch and the host does not wait, where
    /// the joint tensor fits the shared memory of a group (some thousand cells); else this calls
    /// [`MultiMarginalSinkhorn::solve`].
    ///
    /// # Errors
    /// As [`MultiMarginalSinkhorn::solve`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_ot::{MultiMarginalProblem, MultiMarginalSinkhorn};
    /// let half = Tensor::new(&[0.5f64, 0.5], &Device::Cpu)?;
    /// let cost = Tensor::new(&[[0f64, 1.0], [1.0, 0.0]], &Device::Cpu)?;
    /// let problem = MultiMarginalProblem::pairwise(&[half.clone(), half], &[cost])?;
    /// let value = MultiMarginalSinkhorn::new(0.1)?.tolerance(1e-9)?.value(&problem)?;
    /// assert!(value.marginal_errors.to_scalar::<f64>()? < 1e-9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value(&self, problem: &MultiMarginalProblem) -> Result<TransportValue> {
        let first = &problem.marginals[0];
        let Self { schedule, stopping } = *self;
        if let Some(backend) = Backend::of(first)? {
            let dtype = solving_dtype(&backend, first.dtype(), stopping.tolerance);
            if solves(&problem.sizes, dtype) {
                let given = given(&backend, problem, (dtype, LOG_DOMAIN))?;
                let shape = Vec::from_iter(problem.batch);
                let [value, report] = given.solve(&backend, &shape, stopping, schedule.epsilon)?;
                return TransportValue::from_report(value, &report, problem.batch, first.dtype());
            }
        }
        let solution = self.solve(problem)?;
        let (value, cost) = (solution.value.clone(), solution.transport_cost.clone());
        TransportValue::from_convergence(value, cost, solution.convergence())
    }
}
