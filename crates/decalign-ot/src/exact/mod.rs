//! Exact transport: the network simplex, and closed forms on a line.

mod costs;
mod line;
mod masses;
mod plan;
mod search;
mod sliced;
mod solution;
mod solver;
mod staircase;
mod start;
mod tree;

pub use line::wasserstein_1d;
pub use plan::SparsePlan;
pub use sliced::sliced_wasserstein;
pub use solution::ExactSolution;
pub use solver::NetworkSimplex;
