//! How the solve of a problem ended.

use crate::guard::larger;

/// How an iterative solve of one problem ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct End {
    /// Sweeps over the costs, those at larger epsilons included.
    pub iterations: usize,
    /// The largest of the L1 distances of the plan's marginals from what they should be: the weights,
    /// or where a side is penalised `a exp(-f / rho)`.
    pub marginal_error: f64,
    /// Whether that is within the tolerance. Never true of NaN or infinity.
    pub converged: bool,
}

/// Whether every problem converged.
pub(crate) fn converged(ends: &[End]) -> bool {
    ends.iter().all(|end| end.converged)
}

/// The largest marginal error of the problems, NaN if one is.
pub(crate) fn marginal_error(ends: &[End]) -> f64 {
    ends.iter().map(|end| end.marginal_error).fold(0.0, larger)
}

/// The most sweeps that a problem took.
pub(crate) fn iterations(ends: &[End]) -> usize {
    ends.iter().map(|end| end.iterations).max().unwrap_or(0)
}
