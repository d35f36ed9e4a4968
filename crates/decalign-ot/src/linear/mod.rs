//! Entropic transport between two measures.

mod plan;
mod problem;
mod solution;
mod solver;
mod sweep;

pub use plan::Plan;
pub use problem::LinearProblem;
pub use solution::SinkhornSolution;
pub use solver::Sinkhorn;
