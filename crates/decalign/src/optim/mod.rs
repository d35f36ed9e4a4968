//! Adam, gradient clipping, the plateau schedule and early stopping.

mod adam;
mod clip;
pub(crate) mod device;
mod moments;
mod norm;
mod plateau;
mod settings;
mod update;

pub use adam::{Adam, GradientSource};
pub use clip::clip_gradient_norm;
pub use norm::Norm;
pub use plateau::{EarlyStopping, ReduceOnPlateau};
pub use settings::AdamSettings;
