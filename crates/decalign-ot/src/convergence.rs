//! How the solve of a problem ended.

use crate::validate::larger;

/// How an iterative solve of one problem ended.
///
/// Every solution has one a problem, `solution.convergence()`, with the shortcuts `converged()` (all did), `marginal_error()` (the
/// largest) and `iterations()` (the most).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Convergence {
    /// Iterations, those at larger epsilons included.
    pub iterations: usize,
    /// The largest L1 distance of a marginal of the plan from its target, in units of mass. The target is the weights, or
    /// `a exp(-f / rho)` on a penalised side.
    pub marginal_error: f64,
    /// Whether the solve met its tolerance; for [`marginal_error`](Self::marginal_error) that is the tolerance times the mass. Never true of NaN or infinity.
    pub converged: bool,
}

/// Whether every problem converged.
pub(crate) fn converged(all: &[Convergence]) -> bool {
    all.iter().all(|one| one.converged)
}

/// The largest marginal error of the problems, NaN if one is.
pub(crate) fn marginal_error(all: &[Convergence]) -> f64 {
    all.iter().map(|one| one.marginal_error).fold(0.0, larger)
}

/// The most iterations that a problem took.
pub(crate) fn iterations(all: &[Convergence]) -> usize {
    all.iter().map(|one| one.iterations).max().unwrap_or(0)
}

/// Adds the accessors that all solutions share to a type with a field `convergence: Vec<Convergence>`.
macro_rules! convergence_accessors {
    ($solution:ty) => {
        impl $solution {
            /// How the solve of every problem ended, one entry a problem.
            pub fn convergence(&self) -> &[$crate::Convergence] {
                &self.convergence
            }

            /// Whether every problem converged.
            pub fn converged(&self) -> bool {
                $crate::convergence::converged(&self.convergence)
            }

            /// The largest marginal error of the problems, in units of mass.
            pub fn marginal_error(&self) -> f64 {
                $crate::convergence::marginal_error(&self.convergence)
            }

            /// The most iterations that a problem took.
            pub fn iterations(&self) -> usize {
                $crate::convergence::iterations(&self.convergence)
            }
        }
    };
}
pub(crate) use convergence_accessors;
