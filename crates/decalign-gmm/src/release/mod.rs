//! The fit of the DecAlign release, number for number.

mod back;
pub(crate) mod device;
mod fit;
mod op;
mod settings;
mod step;

pub use settings::{MASS_FLOOR, UnrolledEm, UnrolledFit, WEIGHT_FLOOR};
