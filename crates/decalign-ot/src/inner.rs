//! The linear solver as a step of other solvers: all that they take from it, in one place.

use candle_core::Tensor;
use decalign_core::Result;

use crate::geometry::Geometry;
use crate::linear::{LinearProblem, Plan, Sinkhorn};

/// Settings of the solves inside another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Inner {
    pub(crate) epsilon: f64,
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: usize,
}

/// What such a solve found.
pub(crate) struct Step {
    pub(crate) plan: Plan,
    /// The regularised value, with gradients.
    pub(crate) value: Tensor,
    pub(crate) potentials: (Tensor, Tensor),
    pub(crate) marginal_error: f64,
    pub(crate) iterations: usize,
    pub(crate) converged: bool,
}

impl Inner {
    pub(crate) fn solve(&self, geometry: Geometry, a: &Tensor, b: &Tensor) -> Result<Step> {
        let problem = LinearProblem::new(geometry, a, b)?;
        let solution = Sinkhorn::new(self.epsilon)?
            .tolerance(self.tolerance)?
            .max_iterations(self.max_iterations)?
            .solve(&problem)?;
        Ok(Step {
            marginal_error: solution.marginal_error(),
            iterations: solution.iterations(),
            converged: solution.converged(),
            plan: solution.plan,
            value: solution.value,
            potentials: solution.potentials,
        })
    }
}
