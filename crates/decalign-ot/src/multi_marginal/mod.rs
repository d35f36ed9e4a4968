//! Transport between any number of marginals at once, on the dense joint cost.

mod cells;
mod kernel;
mod problem;
mod solver;

pub use kernel::KernelSinkhorn;
pub use problem::{CELL_LIMIT, MultiMarginalProblem};
pub use solver::{MultiMarginalSinkhorn, MultiMarginalSolution};
