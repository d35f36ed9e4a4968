//! Values alone, which on a device never come back to the host.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::Backend;

use super::MultiMarginalSinkhorn;
use super::device::{self, Dense, Given};
use super::problem::MultiMarginalProblem;
use crate::end::End;
use crate::geometry::tensor;
use crate::reference;

/// The value of a transport, without its plan: where the problem lies on a device, so do these, and nothing waited for them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportValue {
    /// The regularised value with its gradients, a scalar or (B); that of
    /// [`MultiMarginalSolution::value`](crate::MultiMarginalSolution::value) or [`SinkhornSolution::value`](crate::SinkhornSolution::value).
    pub value: Tensor,
    /// `<T, C>`, a scalar or (B), without gradients.
    pub transport_cost: Tensor,
    /// The marginal error that the solve ended with, a scalar or (B), without gradients: compare it with the tolerance.
    pub marginal_error: Tensor,
    /// Sweeps, a scalar or (B), without gradients.
    pub iterations: Tensor,
}

impl TransportValue {
    /// From the value and the report of a device.
    pub(crate) fn from_report(
        value: Tensor,
        report: &Tensor,
        batch: Option<usize>,
        dtype: DType,
    ) -> Result<Self> {
        let column = |i: usize| report.narrow(1, i, 1)?.squeeze(1);
        let shaped = |x: Tensor| -> Result<Tensor> {
            let x = x.to_dtype(dtype)?;
            Ok(if batch.is_some() { x } else { x.squeeze(0)? })
        };
        let value = match value.rank() {
            0 => value.to_dtype(dtype)?,
            _ => shaped(value)?,
        };
        Ok(Self {
            value,
            transport_cost: shaped(column(1)?)?,
            marginal_error: shaped(column(2)?)?,
            iterations: shaped(column(3)?)?,
        })
    }

    /// From what the host found.
    pub(crate) fn from_ends(value: Tensor, transport_cost: Tensor, ends: &[End]) -> Result<Self> {
        let numbers = |of: &dyn Fn(&End) -> f64| {
            let all: Vec<f64> = ends.iter().map(of).collect();
            tensor(&all, value.dims(), &transport_cost)
        };
        Ok(Self {
            marginal_error: numbers(&|end| end.marginal_error)?,
            iterations: numbers(&|end| end.iterations as f64)?,
            value,
            transport_cost,
        })
    }
}

/// Tolerances below this ask for more than f32 potentials hold.
const SINGLE: f64 = 2e-6;

/// The type that a device solves in; Metal has only f32.
pub(crate) fn solving_dtype(backend: &Backend, dtype: DType, tolerance: f64) -> DType {
    match tolerance < SINGLE && !backend.device().is_metal() {
        true => DType::F64,
        false => dtype,
    }
}

/// The problem as a device takes it, with gradients; by Candle's operations where types change or there are many marginals.
pub(super) fn given(
    backend: &Backend,
    problem: &MultiMarginalProblem,
    (dtype, of): (DType, device::Source),
) -> Result<Given> {
    if problem.marginals[0].dtype() == dtype
        && let Some(given) = Given::joined(backend, problem, of)?
    {
        return Ok(given);
    }
    let batch = problem.count();
    let marginals = reference::marginals(problem)?;
    let cells: usize = problem.sizes.iter().product();
    let cost = reference::flat_cost(problem)?.broadcast_as((batch, cells))?;
    let dense = Dense {
        sizes: &problem.sizes,
        weights: Tensor::cat(&marginals, 1)?.to_dtype(dtype)?,
        cost: cost.contiguous()?.to_dtype(dtype)?,
    };
    Ok((&dense).into())
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
    /// assert!(value.marginal_error.to_scalar::<f64>()? < 1e-9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value(&self, problem: &MultiMarginalProblem) -> Result<TransportValue> {
        let first = &problem.marginals[0];
        let (epsilon, tolerance, sweeps) = self.limits();
        if let Some(backend) = Backend::of(first)? {
            let dtype = solving_dtype(&backend, first.dtype(), tolerance);
            if device::solves(&problem.sizes, dtype) {
                let given = given(&backend, problem, (dtype, device::LOG_DOMAIN))?;
                let (shape, limits) = (Vec::from_iter(problem.batch), (epsilon, tolerance, sweeps));
                let [value, report] = device::solve_given(&backend, given, &shape, limits)?;
                return TransportValue::from_report(value, &report, problem.batch, first.dtype());
            }
        }
        let solution = self.solve(problem)?;
        TransportValue::from_ends(solution.value, solution.transport_cost, &solution.ends)
    }
}
