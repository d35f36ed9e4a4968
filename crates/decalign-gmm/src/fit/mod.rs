//! Fitting: settings, the iteration, what came of it, and gradients through it.

mod context;
mod gradient;
mod implicit;
mod run;
mod settings;
mod solution;
mod start;

pub use implicit::ImplicitSolve;
pub use settings::{Dead, Em, Gradient};
pub use solution::{End, Fit, Stop};
pub use start::Start;

pub(crate) use context::weights_of;
