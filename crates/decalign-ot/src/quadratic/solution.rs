//! The solution of a Gromov-Wasserstein problem.

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Result};

use super::energy::Energy;
use super::problem::GromovProblem;
use super::solver::State;
use crate::convergence::{Convergence, convergence_accessors};
use crate::tensor_convert::tensor;
use crate::validate;

/// The result of [`crate::GromovWasserstein::solve`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GromovSolution {
    /// The regularised objective `(1 - alpha) <P, M> + alpha E(P) + eps KL(P | a x b)` at the plan, a
    /// scalar. It carries gradients with respect to both costs, that of features, and the weights.
    ///
    /// They are those of the objective with the plan held fixed (for weights: its potentials, centred
    /// to mean 0). The plan being stationary, they are the gradients of the whole, the way the plan
    /// follows included, as far as the solve converged and stays at the same local minimum. That
    /// holds of this value only: [`GromovSolution::energy`] alone also changes with the plan.
    pub value: Tensor,
    /// `E(P)`, without regularisation and whatever alpha is.
    pub energy: f64,
    /// `<P, M>`, 0 without features.
    pub feature_cost: f64,
    /// The plan, (n, m). It carries no gradients.
    pub plan: Tensor,
    /// The L1 distance that the last step moved the plan, divided by the mass. The solve converges when this is within the
    /// tolerance and the last transport converged; its iterations are steps, those taken back included.
    pub movement: f64,
    /// Sweeps of the transports of all steps.
    pub inner_iterations: usize,
    convergence: Vec<Convergence>,
}

convergence_accessors!(GromovSolution);

/// How the descent ended.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) iterations: usize,
    pub(super) inner_iterations: usize,
    pub(super) movement: f64,
    pub(super) converged: bool,
}

impl GromovSolution {
    pub(super) fn new(
        problem: &GromovProblem,
        energy: Energy,
        state: State,
        ended: Ended,
    ) -> Result<Self> {
        let like = &problem.costs[0];
        Ok(Self {
            energy: state.at.energy,
            feature_cost: state.at.linear,
            plan: tensor(&state.plan, problem.size(), like)?,
            movement: ended.movement,
            inner_iterations: ended.inner_iterations,
            convergence: vec![Convergence {
                iterations: ended.iterations,
                marginal_error: state.marginal_error,
                converged: ended.converged,
            }],
            value: record(problem, energy, state)?,
        })
    }
}

/// The value with its gradients.
fn record(problem: &GromovProblem, energy: Energy, state: State) -> Result<Tensor> {
    let like = &problem.costs[0];
    let output = match like.dtype() {
        DType::F32 => Output::new(vec![state.value as f32], ()),
        _ => Output::new(vec![state.value], ()),
    };
    let value = record_one("gromov", &problem.inputs(), output, move |b| {
        backward(b, &energy, &state)
    })?;
    Ok(value.to_device(like.device())?)
}

fn backward(b: &Backward, energy: &Energy, state: &State) -> Result<InputGradients> {
    let outer = b.gradient(0)?.to_dtype(DType::F64)?;
    let outer = Elements::<f64>::new(&outer)?[0];
    let weights = state.potentials.iter().map(|f| validate::centred(f));
    let gradients = weights.chain(energy.of_costs(&state.plan));
    let tensors = gradients.zip(b.inputs).map(|(g, x)| {
        let g: Vec<f64> = g.iter().map(|g| g * outer).collect();
        Ok(Some(tensor(&g, x.dims(), x)?))
    });
    tensors.collect()
}
