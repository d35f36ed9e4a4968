//! Settings: what a file or the command line says, and what a model and an objective need.
//!
//! [`Config`] is the flat list of keys of the release's JSON files plus this project's own
//! (`semantics`, `modalities`, ...). [`Config::resolve`] checks it against a data set once and
//! gives the valid [`ModelConfig`] and [`ObjectiveConfig`].
//!
//! ```
//! use decalign::config::Config;
//! let mut config = Config::preset("mosi")?;
//! config.set("num_epochs=3")?;
//! assert_eq!(config.num_epochs, 3);
//! let error = config.set("num_epoch=3").unwrap_err().to_string();
//! assert!(error.contains("did you mean num_epochs"));
//! # Ok::<(), decalign::Error>(())
//! ```

mod check;
mod keys;
mod parse;
mod preset;
mod resolve;
mod resolved;
mod text;

pub use crate::metrics::Goal;
pub use check::check_batches;
pub use keys::{ClassWeight, Component, Config, CostReduction, Semantics, TaskLoss, TrainMode};
pub use preset::PRESETS;
pub use resolved::{
    ModalityConfig, ModelConfig, ObjectiveConfig, RegressionLoss, Resolved, Task, TextEncoderConfig,
};
