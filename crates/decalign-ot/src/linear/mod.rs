//! Entropic transport between two measures.

mod cells;
mod columns;
pub(crate) mod device;
mod divergence;
mod gradient;
mod implicit;
mod options;
mod outcome;
mod plan;
mod problem;
mod record;
mod run;
mod side;
mod solution;
mod solver;
mod sweep;
mod unrolled;
mod walk;

pub use divergence::{Divergence, SinkhornDivergence};
pub use implicit::LinearSolve;
pub use options::{Acceleration, Gradient, Update};
pub use plan::Plan;
pub use problem::LinearProblem;
pub use solution::SinkhornSolution;
pub use solver::Sinkhorn;
