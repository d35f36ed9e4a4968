//! Values alone, which on a device never come back to the host.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::Backend;

use super::MultiMarginalSinkhorn;
use super::device;
use super::problem::MultiMarginalProblem;
use crate::device::{JointInputs, LOG_DOMAIN, Source, solves};
use crate::reference;
use crate::schedule::{Stopping, solving_dtype};
use crate::value::TransportValue;

/// The problem as a device takes it, with gradients; by Candle's operations where types change or there are many marginals.
pub(super) fn given(
    backend: &Backend,
    problem: &MultiMarginalProblem,
    (dtype, of): (DType, Source),
) -> Result<JointInputs> {
    if problem.marginals[0].dtype() == dtype
        && let Some(given) = device::joined(backend, problem, of)?
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
    /// The value alone. On a device all sweeps of a batch are one launch, and the host waits for none of it, where the
    /// joint tensor fits a group's memory (some thousand cells); else this is [`MultiMarginalSinkhorn::solve`].
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
    /// let value = MultiMarginalSinkhorn::new(0.1, 1e-9, 100)?.value(&problem)?;
    /// assert!(value.marginal_errors.to_scalar::<f64>()? < 1e-9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value(&self, problem: &MultiMarginalProblem) -> Result<TransportValue> {
        let first = &problem.marginals[0];
        let (epsilon, tolerance, sweeps) = self.limits();
        if let Some(backend) = Backend::of(first)? {
            let dtype = solving_dtype(&backend, first.dtype(), tolerance);
            if solves(&problem.sizes, dtype) {
                let given = given(&backend, problem, (dtype, LOG_DOMAIN))?;
                let (shape, stopping) = (
                    Vec::from_iter(problem.batch),
                    Stopping::new(tolerance, sweeps),
                );
                let [value, report] = given.solve(&backend, &shape, stopping, epsilon)?;
                return TransportValue::from_report(value, &report, problem.batch, first.dtype());
            }
        }
        let solution = self.solve(problem)?;
        let (value, cost) = (solution.value.clone(), solution.transport_cost.clone());
        TransportValue::from_convergence(value, cost, solution.convergence())
    }
}
