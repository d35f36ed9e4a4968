//! Training: epochs, validation, the best checkpoint, when to stop, and how to go on.
//!
//! [`Trainer`] trains DecAlign as a configuration says. It is a [`Fit`] of one [`Model`] and one [`Criterion`]; any
//! other model and criterion train by the same door. An [`Observer`] follows a run and may pause or end it; a
//! [`Keep`] says where the run's state is kept, so that it can be interrupted at any moment.

mod fit;
mod history;
mod learner;
mod run;
mod settings;
mod state;
mod trainer;

pub use fit::{Fit, Fitted, Judged};
pub use history::{EpochReport, Flow, Observer, Silent, Start, StepReport};
pub use learner::{Criterion, Model, Terms};
pub use settings::{TrainSettings, Watch};
pub use state::{Keep, Phases};
pub use trainer::{Outcome, Trainer};
