//! The run folder: the name and the schema of every file that training leaves, for reading and for writing.
//!
//! Single runs, seeds of several, and the runs inside experiments use the same folder. Every file is written atomically:
//! it is whole, old or new, whenever the program was stopped.
//!
//! | file | type |
//! |---|---|
//! | [`CONFIG`] | [`Config`](decalign::config::Config) |
//! | [`RUN`] | [`RunRecord`] |
//! | [`EPOCHS`], [`HISTORY`] | [`EpochReport`](decalign::train::EpochReport)s, read as an [`EpochTable`] |
//! | [`METRICS`] | [`RunMetrics`] |
//! | [`TEST_PREDICTIONS`], [`VALID_PREDICTIONS`] | [`PredictionTable`] |
//! | [`CHECKPOINT`] | [`Checkpoint`](decalign::Checkpoint) |
//! | [`EXPERIMENT`] | [`Experiment`](crate::Experiment), in the folder of an experiment |

mod epochs;
mod folder;
mod metrics;
mod predictions;
mod record;

pub use epochs::{EpochTable, write_epochs};
pub use folder::{RunFolder, safe_name};
pub use metrics::{RunMetrics, intervals};
pub use predictions::{PredictionTable, write_predictions};
pub use record::{
    DataRecord, MachineRecord, ModalityRecord, PhaseSeconds, ProgramRecord, RunRecord, RunStatus,
    SessionRecord, instruction_set, unix_time,
};

use std::io;
use std::path::{Path, PathBuf};

use decalign_data::{Error, Result, write_atomic};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The configuration with every key filled in.
pub const CONFIG: &str = "config.json";
/// The circumstances and the progress of the run.
pub const RUN: &str = "run.json";
/// One row an epoch.
pub const EPOCHS: &str = "epochs.csv";
/// The epochs as JSON.
pub const HISTORY: &str = "history.json";
/// Metrics of the best model; written when the run is done.
pub const METRICS: &str = "metrics.json";
/// Predictions of the test part.
pub const TEST_PREDICTIONS: &str = "predictions-test.csv";
/// Predictions of the validation part.
pub const VALID_PREDICTIONS: &str = "predictions-valid.csv";
/// The best model so far.
pub const CHECKPOINT: &str = "best.safetensors";
/// The table of an experiment.
pub const EXPERIMENT: &str = "experiment.json";

/// The folder of one seed inside the folder of a run or of a setting.
pub fn seed_folder(folder: &Path, seed: u64) -> PathBuf {
    folder.join(format!("seed-{seed}"))
}

/// Reads a JSON file.
///
/// # Errors
/// When it does not exist or does not have the schema; the message names the file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    serde_json::from_str(&text).map_err(|error| Error::io(path, error.into()))
}

/// Writes a JSON file atomically.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Error::io(path, error.into()))? + "\n";
    write_atomic(path, text.as_bytes())
}

/// An error about the content of a file or folder.
fn invalid(path: &Path, message: impl Into<String>) -> Error {
    Error::io(path, io::Error::other(message.into()))
}
