//! Files of trained models.

mod weights;

pub use weights::read_tensors;
