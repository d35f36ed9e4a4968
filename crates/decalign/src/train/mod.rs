//! Training: epochs, validation, the best weights, early stopping, resuming.
//!
//! [`Trainer`] trains any [`Model`] by any [`Criterion`]. [`DecAlignTrainer`] is the trainer of DecAlign under a
//! [`Config`](crate::config::Config); [`BaselineTrainer`](crate::baseline::BaselineTrainer) is that of the networks
//! of the literature. An [`Observer`] follows a run and may pause or end it. A [`ResumePolicy`] says where the
//! state of a run is saved, so that it can be interrupted at any moment.

mod decalign;
mod evaluation;
mod model;
mod observer;
mod outcome;
mod prepared;
mod report;
mod resume;
mod run;
mod settings;
mod state;
mod step;
mod trainer;

pub use crate::objective::LossTerms;
pub use decalign::DecAlignTrainer;
pub use evaluation::{Evaluation, LossAverage};
pub use model::{Criterion, Model};
pub use observer::{Flow, Observer, Silent};
pub use outcome::ModelOutcome;
pub use report::{EpochReport, PhaseTimes, StartReport, StepReport};
pub use resume::ResumePolicy;
pub use settings::{Monitor, TrainSettings};
pub use trainer::{Trainer, TrainingOutcome};

pub(crate) use evaluation::predict;
pub(crate) use prepared::Prepared;
