//! Exact transport: the network simplex, and closed forms on a line.

mod cost_matrix;
mod initial_tree;
mod line;
mod masses;
mod pivot_rule;
mod plan;
mod quantile_coupling;
mod sliced;
mod solution;
mod solver;
mod spanning_tree;

pub use line::wasserstein_1d;
pub use plan::SparsePlan;
pub use sliced::sliced_wasserstein;
pub use solution::ExactSolution;
pub use solver::NetworkSimplex;
