//! What a solve found and how it ended.

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Result};

use super::energy::Energy;
use super::problem::GromovProblem;
use super::solver::State;
use crate::tensor_convert::tensor;
use crate::validate;

/// The result of [`crate::GromovWasserstein::solve`].
#[derive(Clone, Debug)]
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
    /// How far the last step moved the plan, in L1, divided by the mass.
    pub movement: f64,
    /// The larger L1 distance of the plan's marginals from a and b.
    pub marginal_error: f64,
    /// Steps, those taken back included.
    pub iterations: usize,
    /// Sweeps of the transports of all steps.
    pub inner_iterations: usize,
    /// Whether the movement is within the tolerance and the last transport converged. Never true of
    /// NaN or infinity.
    pub converged: bool,
}

/// How a solve ended.
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
            marginal_error: state.marginal_error,
            iterations: ended.iterations,
            inner_iterations: ended.inner_iterations,
            converged: ended.converged,
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
