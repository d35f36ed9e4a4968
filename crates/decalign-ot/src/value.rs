//! Values alone, which on a device never come back to the host.

use candle_core::{DType, Tensor};
use decalign_core::Result;

use crate::convergence::Convergence;
use crate::tensor_convert::tensor;

/// The value of a transport without its plan. Where the problem lies on a device so do these tensors, and the host waited for none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportValue {
    /// The regularised value with its gradients, a scalar or (B); that of
    /// [`MultiMarginalSolution::value`](crate::MultiMarginalSolution::value) or [`SinkhornSolution::value`](crate::SinkhornSolution::value).
    pub value: Tensor,
    /// `<T, C>`, a scalar or (B), without gradients.
    pub transport_cost: Tensor,
    /// The marginal error of every problem in units of mass, a scalar or (B), without gradients.
    pub marginal_errors: Tensor,
    /// Sweeps of every problem, a scalar or (B), without gradients.
    pub iteration_counts: Tensor,
}

impl TransportValue {
    /// From the value and the report (B, 4) of a device: value, transport cost, marginal error and sweeps.
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
            marginal_errors: shaped(column(2)?)?,
            iteration_counts: shaped(column(3)?)?,
        })
    }

    /// From a solve on the host.
    pub(crate) fn from_convergence(
        value: Tensor,
        transport_cost: Tensor,
        all: &[Convergence],
    ) -> Result<Self> {
        let numbers = |of: &dyn Fn(&Convergence) -> f64| {
            let numbers: Vec<f64> = all.iter().map(of).collect();
            tensor(&numbers, value.dims(), &transport_cost)
        };
        Ok(Self {
            marginal_errors: numbers(&|one| one.marginal_error)?,
            iteration_counts: numbers(&|one| one.iterations as f64)?,
            value,
            transport_cost,
        })
    }
}
