//! Solved problems, as their plans and backward passes see them.

use super::iterate::Step;
use super::plan_cells::Totals;
use super::problem::LinearProblem;
use super::settings::Gradient;

/// The type that the cells of a plan are computed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Precision {
    Single,
    Double,
}

/// One problem and the potentials that solve it.
#[derive(Debug)]
pub(super) struct SolvedProblem {
    /// a and b; where both marginals are exact b has the total of a.
    pub(super) weights: (Vec<f64>, Vec<f64>),
    /// `F = f / (eps ln 2) + log2 a`, and G.
    pub(super) scaled: (Vec<f64>, Vec<f64>),
    pub(super) precision: Precision,
    /// Sweeps, those at larger epsilons included.
    pub(super) iterations: usize,
    /// Marginals and costs of the plan of these potentials.
    pub(super) totals: Totals,
    /// The state after every sweep, where gradients go back through them.
    pub(super) tape: Vec<Step>,
}

/// A batch of them.
#[derive(Debug)]
pub(super) struct SolvedBatch {
    pub(super) problem: LinearProblem,
    pub(super) each: Vec<SolvedProblem>,
    pub(super) epsilon: f64,
    pub(super) gradient: Gradient,
}

impl SolvedBatch {
    /// F, G and epsilon of problem `i`.
    pub(super) fn potentials(&self, i: usize) -> (&[f64], &[f64], f64) {
        let (f, g) = &self.each[i].scaled;
        (f, g, self.epsilon)
    }
}
