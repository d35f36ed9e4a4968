//! Settings: the keys of files and of the command line, and the valid settings of a model and an objective.
//!
//! [`Config`] is the flat list of keys of upstream's JSON files and those of this project
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
mod key;
mod keys;
mod listing;
mod modality;
mod parse;
mod preset;
mod resolve;
mod resolved;
mod text;

pub use crate::metrics::Goal;
pub use check::check_batches;
pub use decalign_data::ModalityKind;
pub use key::Key;
pub(crate) use key::Range;
pub use keys::{ClassWeight, Component, Config, CostReduction, Semantics, TaskLoss, TrainMode};
pub use listing::keys;
pub use modality::parameter_key;
pub use preset::{PRESET_SHAPES, PRESETS, PresetShape};
pub use resolved::{
    ModalityConfig, ModelConfig, ObjectiveConfig, RegressionLoss, Resolved, Task, TextEncoderConfig,
};
