//! Transport between any number of marginals at once.

mod buckets;
mod cells;
mod dense;
pub(crate) mod device;
mod engine;
mod forest;
mod graph;
mod inputs;
mod joint;
mod kernel;
mod kernel_backward;
mod message;
mod pace;
mod parts;
mod passes;
mod problem;
mod solution;
mod solver;
mod tables;
mod value;

pub(crate) use joint::Structure;
pub use kernel::KernelSinkhorn;
pub(crate) use kernel::{DENOMINATOR_SHIFT, KERNEL_FLOOR, PLAN_FLOOR};
pub use problem::{CELL_LIMIT, MultiMarginalProblem};
pub use solution::MultiMarginalSolution;
pub use solver::MultiMarginalSinkhorn;
