//! The solution of exact transport.

use candle_core::{DType, Device, Tensor};
use decalign_core::Result;

use super::plan::SparsePlan;
use crate::convergence::{Convergence, convergence_accessors};
use crate::linear::LinearProblem;

/// The result of [`crate::NetworkSimplex::solve`].
///
/// [`iterations`](Self::iterations) counts pivots. [`converged`](Self::converged) is true when no arc has a negative
/// reduced cost beyond rounding, and never of NaN or infinity. Marginals are exact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExactSolution {
    /// The cost `<P, C>`, a scalar. It carries gradients: the plan with respect to costs, and
    /// through the costs to points; the potentials, centred to mean 0 over the points with mass,
    /// with respect to weights (0 where a weight is 0). Where several plans or potentials are
    /// optimal, as of equal weights, those found are one subgradient.
    pub value: Tensor,
    /// The optimal plan.
    pub plan: SparsePlan,
    /// f, (n) of mean 0, and g, (m), with `f_i + g_j <= C_ij` between points with mass and equality
    /// where mass flows; 0 where a weight is 0. They carry no gradients.
    pub potentials: (Tensor, Tensor),
    /// `<P, C> - <f, a> - <g, b>`, an upper bound of the distance of the cost from the optimum.
    pub duality_gap: f64,
    convergence: Vec<Convergence>,
}

convergence_accessors!(ExactSolution);

/// How the simplex method ended.
pub(super) struct Ended {
    pub(super) iterations: usize,
    pub(super) optimal: bool,
    pub(super) duality_gap: f64,
}

impl ExactSolution {
    /// Of potentials of the points at `places`, those with mass.
    pub(super) fn new(
        problem: &LinearProblem,
        plan: SparsePlan,
        [f, g]: &[Vec<f64>; 2],
        places: &[Vec<usize>; 2],
        ended: Ended,
    ) -> Result<Self> {
        let (n, m) = problem.geometry().size();
        let (a, b) = problem.marginals();
        let [rows, columns] = places;
        let mean = |x: &[f64], count: usize| x[..count].iter().sum::<f64>() / count as f64;
        let (shift, rise) = (mean(f, rows.len()), mean(g, columns.len()));
        let slopes = [spread(f, rows, n, -shift)?, spread(g, columns, m, -rise)?];
        let potentials = (slopes[0].clone(), spread(g, columns, m, shift)?);
        let like =
            |x: Tensor| -> Result<Tensor> { Ok(x.to_dtype(a.dtype())?.to_device(a.device())?) };
        let mut value = transport_cost(problem, &plan)?;
        for (weights, slope) in [a, b].into_iter().zip(&slopes) {
            let weights = wide(weights)?;
            // 0, with this gradient.
            value = (value + ((&weights - weights.detach())? * slope)?.sum_all()?)?;
        }
        Ok(Self {
            value: like(value)?,
            plan,
            potentials: (like(potentials.0)?, like(potentials.1)?),
            duality_gap: ended.duality_gap,
            convergence: vec![Convergence {
                iterations: ended.iterations,
                marginal_error: 0.0,
                converged: ended.optimal,
            }],
        })
    }
}

/// `<P, C>` in f64, with the gradients of the costs.
fn transport_cost(problem: &LinearProblem, plan: &SparsePlan) -> Result<Tensor> {
    let costs = problem.geometry().pair_costs(plan.rows(), plan.columns())?;
    let masses = plan.masses();
    let masses = Tensor::from_slice(masses, masses.len(), &Device::Cpu)?;
    Ok((wide(&costs)? * masses)?.sum_all()?)
}

/// In f64 on the CPU, with gradients.
fn wide(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
}

/// `x + shift` at the places, 0 elsewhere.
fn spread(x: &[f64], places: &[usize], n: usize, shift: f64) -> Result<Tensor> {
    let mut all = vec![0.0; n];
    for (place, x) in places.iter().zip(x) {
        all[*place] = x + shift;
    }
    Ok(Tensor::from_vec(all, n, &Device::Cpu)?)
}
