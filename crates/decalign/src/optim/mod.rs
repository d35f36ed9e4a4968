//! Adam, gradient clipping, the plateau schedule and early stopping.

mod adam;
mod clip;
mod plateau;

pub use adam::{Adam, AdamSettings};
pub use clip::clip_gradient_norm;
pub use plateau::{EarlyStopping, Goal, ReduceOnPlateau};
