//! What a solve found and how it ended.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use decalign_core::Result;

use super::cells::Shared;
use super::implicit::LinearSolve;
use super::options::Settings;
use super::outcome::Part;
use super::plan::Plan;
use super::problem::LinearProblem;
use super::record::{potentials, value};
use super::run::Run;
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
        runs: Vec<Run>,
    ) -> Result<Self> {
        let mut iterations = Vec::new();
        let double = runs.iter().map(|run| run.double).collect();
        let (mut scaled, mut tapes, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs {
            iterations.push(run.iterations);
            scaled.push(run.scaled);
            tapes.push(run.tape);
            totals.push(run.totals);
        }
        let (epsilon, gradient) = (settings.schedule.epsilon, settings.gradient);
        let shared = Arc::new(Shared {
            problem: problem.clone(),
            scaled,
            double,
            epsilon,
            gradient,
        });
        let ended = totals.into_iter().zip(iterations).enumerate();
        let each =
            ended.map(|(i, (totals, sweeps))| Part::new(&shared, i, settings, totals, sweeps));
        let parts = each.collect::<Result<Vec<_>>>()?;
        let numbers = |f: &dyn Fn(&Part) -> f64| -> Result<Tensor> {
            tensor(
                &parts.iter().map(f).collect::<Vec<_>>(),
                problem.shape(&[]),
                &problem.a,
            )
        };
        let solves = Arc::default();
        let potentials = potentials(&shared, &parts, tapes, &solves)?;
        Ok(Self {
            value: value(&shared, &parts, &potentials)?,
            regularized_cost: numbers(&|part| part.primal)?,
            transport_cost: numbers(&|part| part.totals.cost)?,
            convergence: parts.iter().map(|part| part.convergence).collect(),
            plan: Plan {
                shared,
                potentials: potentials.clone(),
            },
            potentials,
            solves,
        })
    }
}
