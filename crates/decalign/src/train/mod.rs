//! Training.
mod history;
pub use history::{EpochReport, Observer, Silent};
