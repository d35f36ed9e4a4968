//! Entropic transport between two measures.
//!
//! Calls go down this table: a file calls files below it only.
//!
//! | step | file |
//! |---|---|
//! | settings and entry | `solver.rs`; on a device `device/`; the debiased value `divergence.rs` |
//! | precision, restarts, stages of epsilon, acceleration | `solve.rs` |
//! | one sweep at one epsilon | `sweep.rs` |
//! | the solution: values, errors, the value's gradient | `evaluate.rs` |
//! | gradients of potentials | `autograd.rs`, by `implicit.rs` or `unrolled.rs` |
//! | the plan, and its cells | `plan.rs`, `plan_cells.rs` |
//! | the problem and its checks; a solved problem | `problem.rs` |
//! | weights and marginals of both sides | `marginal.rs` |

mod autograd;
pub(crate) mod device;
mod divergence;
mod evaluate;
mod implicit;
mod marginal;
mod plan;
mod plan_cells;
mod problem;
mod solve;
mod solver;
mod sweep;
mod unrolled;

pub use divergence::{Divergence, SinkhornDivergence};
pub use evaluate::SinkhornSolution;
pub use implicit::LinearSolve;
pub use plan::Plan;
pub use problem::{Gradient, LinearProblem};
pub use solve::{Acceleration, Update};
pub use solver::Sinkhorn;
