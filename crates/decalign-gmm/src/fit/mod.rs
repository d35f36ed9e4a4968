//! Fitting by EM: settings, initialisation, iterations, result, and gradients through the fit.

mod backward;
mod implicit;
mod initialization;
mod iterate;
mod problem;
mod settings;
mod solution;

pub use implicit::ImplicitSolve;
pub use initialization::Initialization;
pub use settings::{Em, EmptyComponent, Gradient};
pub use solution::{Convergence, Fit, StoppingReason};

pub(crate) use initialization::even_rows;
pub(crate) use settings::not_negative;
