//! Transport by plans of low rank: time and memory linear in the number of points.

mod cost;
mod plan;
mod projection;
mod ridge;
mod solution;
mod solver;

pub use plan::LowRankPlan;
pub use solution::LowRankSolution;
pub use solver::LowRankSinkhorn;
