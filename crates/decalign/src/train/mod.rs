//! Training: epochs, validation, the best checkpoint, and when to stop.

mod epoch;
mod history;
mod trainer;

pub use history::{EpochReport, Observer, Silent};
pub use trainer::{Outcome, Trainer};
