//! Entropic transport between two measures.

mod anderson;
mod cells;
mod divergence;
mod gradient;
mod implicit;
mod plan;
mod problem;
mod run;
mod settings;
mod side;
mod solution;
mod sweep;
mod unrolled;

pub use divergence::{Divergence, SinkhornDivergence};
pub use implicit::LinearSolve;
pub use plan::Plan;
pub use problem::LinearProblem;
pub use settings::{Acceleration, Gradient, Sinkhorn, Update};
pub use solution::{End, SinkhornSolution};
