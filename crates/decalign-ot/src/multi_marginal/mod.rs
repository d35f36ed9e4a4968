//! Multi-marginal transport.
//!
//! A [`MultiMarginalProblem`] is solved on its joint tensor (`dense`), by messages along the edges of a forest
//! (`forest`) or between the tables of bucket elimination (`buckets`); `graph` chooses. Each is a `SinkhornState` that
//! `solver` sweeps. [`KernelSinkhorn`] is the upstream loss.

mod buckets;
mod components;
mod dense;
pub(crate) mod device;
mod dimension_tree;
mod exponentials;
mod forest;
mod graph;
mod inputs;
mod iterate;
mod joint;
mod kernel;
mod kernel_backward;
mod layout;
mod log_scalings;
mod matvec;
mod message;
mod problem;
mod problem_checks;
mod solution;
mod solver;
mod state;
mod tables;
mod value;

pub(crate) use joint::Structure;
pub use kernel::KernelSinkhorn;
pub(crate) use kernel::{DENOMINATOR_SHIFT, KERNEL_FLOOR, PLAN_FLOOR};
pub use problem::{CELL_LIMIT, MultiMarginalProblem};
pub use solution::MultiMarginalSolution;
pub use solver::MultiMarginalSinkhorn;
