//! Transport by plans of low rank: time and memory linear in the number of points.

mod cholesky;
mod cost;
mod plan;
mod projection;
mod solution;
mod solver;

pub use plan::LowRankPlan;
pub use solution::LowRankSolution;
pub use solver::LowRankSinkhorn;
