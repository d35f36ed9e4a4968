//! Entropic transport between two measures.
//!
//! | step | page |
//! |---|---|
//! | the problem and its checks | `problem.rs` |
//! | settings and entry | `solver.rs`, `settings.rs`; on a device `device/` |
//! | stages, precision, restarts | `solve.rs` |
//! | sweeps at one epsilon | `iterate.rs`, `sweep.rs`, `marginal.rs` |
//! | values and errors of the plan | `evaluate.rs` |
//! | gradients | `autograd.rs`; of potentials `implicit.rs`, `unrolled.rs`; what they share `weight_gradient.rs` |
//! | a solved problem | `solved.rs` |
//! | the result | `solution.rs`, `plan.rs` and its cells `plan_cells.rs` |

mod autograd;
mod columns;
pub(crate) mod device;
mod divergence;
mod evaluate;
mod implicit;
mod iterate;
mod marginal;
mod plan;
mod plan_cells;
mod problem;
mod settings;
mod solution;
mod solve;
mod solved;
mod solver;
mod sweep;
mod unrolled;
mod weight_gradient;

pub use divergence::{Divergence, SinkhornDivergence};
pub use implicit::LinearSolve;
pub use plan::Plan;
pub use problem::LinearProblem;
pub use settings::{Acceleration, Gradient, Update};
pub use solution::SinkhornSolution;
pub use solver::Sinkhorn;
