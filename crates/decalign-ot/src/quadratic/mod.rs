//! Transport between points of different spaces, by the distances within each.

mod energy;
mod problem;
mod solution;
mod solver;

pub use problem::GromovProblem;
pub use solution::GromovSolution;
pub use solver::GromovWasserstein;
