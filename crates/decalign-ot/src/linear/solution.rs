//! The result of a solve.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use decalign_core::Result;

use super::autograd::{potentials, value};
use super::evaluate::Evaluation;
use super::implicit::LinearSolve;
use super::plan::Plan;
use super::problem::LinearProblem;
use super::settings::Settings;
use super::solved::{SolvedBatch, SolvedProblem};
use crate::convergence::{Convergence, convergence_accessors};
use crate::tensor_convert::tensor;

/// The result of [`crate::Sinkhorn::solve`]: of one problem, or side by side of a batch of B.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkhornSolution {
    /// The dual value, () or (B); at convergence the regularised cost `<P, C> + eps KL(P | a x b)`, penalties
    /// included. It carries gradients with respect to weights (of exact marginals centred, to a
    /// weighted mean of 0), costs and points, as [`crate::Gradient`] says.
    ///
    /// ```text
    /// <f, a> + <g, b> + eps (|a| |b| - |P|)
    /// ```
    ///
    /// with `rho (1 - exp(-f / rho))` in place of f, and of g, where a side is penalised.
    pub value: Tensor,
    /// The primal value of the plan as it is, () or (B): above the dual by as much as the plan is from
    /// optimal. Without gradients.
    pub regularized_cost: Tensor,
    /// `<P, C>`, without regularisation and penalties, () or (B). Without gradients.
    pub transport_cost: Tensor,
    /// f, (n) or (B, n), and g, (m) or (B, m); 0 where a weight is 0, of equal mean over points with
    /// weight when both marginals are exact. Gradients as [`crate::Gradient`] says.
    pub potentials: (Tensor, Tensor),
    /// The plan, computed as it is needed.
    pub plan: Plan,
    convergence: Vec<Convergence>,
    solves: Arc<Mutex<Vec<LinearSolve>>>,
}

convergence_accessors!(SinkhornSolution);

impl SinkhornSolution {
    /// How the linear systems of backward passes so far ended, with [`crate::Gradient::Implicit`]; one a
    /// problem and pass.
    pub fn gradient_solves(&self) -> Vec<LinearSolve> {
        self.solves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn new(
        settings: &Settings,
        problem: &LinearProblem,
        each: Vec<SolvedProblem>,
    ) -> Result<Self> {
        let solved = Arc::new(SolvedBatch {
            problem: problem.clone(),
            each,
            epsilon: settings.schedule.epsilon,
            gradient: settings.gradient,
        });
        let tolerance = settings.stopping.tolerance;
        let evaluate = |one| Evaluation::new(&solved, one, tolerance);
        let found: Vec<Evaluation> = solved.each.iter().map(evaluate).collect();
        let numbers = |numbers: Vec<f64>| tensor(&numbers, problem.shape(&[]), &problem.a);
        let solves = Arc::default();
        let potentials = potentials(&solved, &found, &solves)?;
        Ok(Self {
            value: value(&solved, &found, &potentials)?,
            regularized_cost: numbers(found.iter().map(|one| one.primal).collect())?,
            transport_cost: numbers(solved.each.iter().map(|one| one.totals.cost).collect())?,
            convergence: found.iter().map(|one| one.convergence).collect(),
            plan: Plan {
                solved,
                potentials: potentials.clone(),
            },
            potentials,
            solves,
        })
    }
}
