//! The fixed number of EM steps of the public DecAlign code, number for number.

mod backward;
pub(crate) mod device;
mod fit;
mod op;
mod settings;
mod step;

pub use settings::{MASS_FLOOR, UnrolledEm, UnrolledFit, WEIGHT_FLOOR};
