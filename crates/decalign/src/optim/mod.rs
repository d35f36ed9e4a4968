//! Adam, gradient clipping, the plateau schedule and early stopping.

mod adam;
mod clip;
pub(crate) mod device;
mod norm;
mod plateau;

pub use adam::{Adam, AdamSettings, GradientSource};
pub use clip::clip_gradient_norm;
pub use norm::Norm;
pub use plateau::{EarlyStopping, ReduceOnPlateau};
