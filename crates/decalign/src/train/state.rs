//! What an interrupted run goes on from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::Tensor;
use decalign_data::write_atomic;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EpochReport;
use crate::checkpoint::{from_buffer, seal, verify};
use crate::optim::{EarlyStopping, ReduceOnPlateau};
use crate::{Error, Result};

/// The newest state.
const NEWEST: &str = "state.safetensors";
/// The one before, for the moment between two files and for damage.
const PREVIOUS: &str = "state-previous.safetensors";
/// A state that was damaged, put aside.
const DAMAGED: &str = "state-damaged.safetensors";
/// The key of the header's entry.
const KEY: &str = "decalign_state";
/// The version of the format.
const VERSION: u32 = 1;

/// Where a run keeps its state, so that it can be interrupted at any moment and goes on.
///
/// The state is all that the rest of the run depends on: parameters, the optimiser's means, the learning rate's
/// schedule, the best model so far, the history, and the place in the order of batches. Random numbers are drawn
/// by seed, epoch and step, so their generators have no other state. It is saved at the end of every epoch and,
/// where epochs are long, between steps. A run that goes on ends with the same bits as one that was
/// not interrupted.
///
/// ```
/// use std::time::Duration;
/// use decalign::train::Keep;
/// let keep = Keep::at("runs/mine").every(Duration::from_secs(10));
/// # assert!(!keep.has_state());
/// ```
#[derive(Clone, Debug)]
pub struct Keep {
    folder: Option<PathBuf>,
    every: Duration,
    identity: String,
}

impl Keep {
    /// Keeps nothing.
    pub fn nothing() -> Self {
        Self {
            folder: None,
            every: Duration::from_secs(60),
            identity: String::new(),
        }
    }

    /// Keeps the state in a folder, and goes on from the one that is there, if any.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
            ..Self::nothing()
        }
    }

    /// Saves between steps when so much time has passed since the last save; one minute without.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// What the run is of, such as its data's [`fingerprint`](crate::fingerprint) and its configuration: a state
    /// of another identity is refused.
    pub fn identity(self, identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            ..self
        }
    }

    /// Whether there is a state to go on from.
    pub fn has_state(&self) -> bool {
        let there = |name| self.folder.as_ref().is_some_and(|f| f.join(name).exists());
        there(NEWEST) || there(PREVIOUS)
    }

    /// Removes the states of a run that is done.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for name in [NEWEST, PREVIOUS, DAMAGED] {
            let Some(path) = self.folder.as_ref().map(|folder| folder.join(name)) else {
                return Ok(());
            };
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(&path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn keeps(&self) -> bool {
        self.folder.is_some()
    }

    pub(super) fn extra(&self) -> &str {
        &self.identity
    }

    pub(super) fn is_due(&self, since: Duration) -> bool {
        self.folder.is_some() && since >= self.every
    }

    /// Saves a state beside the one before it.
    pub(super) fn save(&self, state: &State) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let (newest, previous) = (folder.join(NEWEST), folder.join(PREVIOUS));
        let bytes = state.to_bytes(&newest)?;
        if newest.exists() {
            std::fs::rename(&newest, &previous).map_err(|error| Error::file(&newest, error))?;
        }
        write_atomic(&newest, &bytes).map_err(|error| {
            let message = match previous.exists() {
                true => "the state before it is kept; resume when there is room",
                false => "nothing was kept yet",
            };
            Error::invalid(format!("{error}; {message}"))
        })
    }

    /// The newest state that is whole, and what was wrong with a newer one.
    pub(super) fn load(&self, identity: &str) -> Result<Option<(State, Option<String>)>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let (newest, previous) = (folder.join(NEWEST), folder.join(PREVIOUS));
        let found = match (newest.exists(), previous.exists()) {
            (false, false) => return Ok(None),
            (true, _) => match (State::open(&newest), previous.exists()) {
                (Ok(state), _) => (state, None),
                (Err(error), true) => {
                    let state =
                        State::open(&previous).map_err(|second| hopeless(&error, &second))?;
                    let aside = folder.join(DAMAGED);
                    std::fs::rename(&newest, &aside).map_err(|e| Error::file(&newest, e))?;
                    let told = format!("{error}; put aside as {DAMAGED}, going on from {PREVIOUS}");
                    (state, Some(told))
                }
                (Err(error), false) => return Err(hopeless(&error, &"there is none before it")),
            },
            (false, true) => (State::open(&previous)?, None),
        };
        if found.0.progress.identity != identity {
            return Err(Error::file(
                &newest,
                "is of another run: configuration, data or model have changed since; restore them, or train in another folder",
            ));
        }
        Ok(Some(found))
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self::nothing()
    }
}

fn hopeless(newest: &Error, previous: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!(
        "{newest} ({previous}); to begin again, remove state*.safetensors"
    ))
}

/// Wall time by phase, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Steps.
    pub training: f64,
    /// Figures of the validation part, after every epoch.
    pub validation: f64,
    /// Writing states and best models, and what observers do.
    pub saving: f64,
    /// Figures of the best model in the end.
    pub test: f64,
}

/// Everything of a run that is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) version: u32,
    pub(super) identity: String,
    /// The epoch being run, counted from 1.
    pub(super) epoch: usize,
    /// Steps of it that are done.
    pub(super) step: usize,
    /// Names of the losses, once they are known.
    pub(super) names: Vec<String>,
    /// Sums over the samples of this epoch so far, divided by all its samples.
    pub(super) losses: Vec<f64>,
    pub(super) gradient_norm: f64,
    pub(super) epoch_seconds: f64,
    pub(super) schedule: ReduceOnPlateau,
    pub(super) stopping: EarlyStopping,
    pub(super) epochs: Vec<EpochReport>,
    pub(super) phases: Phases,
    /// No epoch is left to run.
    pub(super) ended: bool,
}

impl Progress {
    pub(super) fn new(
        identity: String,
        schedule: ReduceOnPlateau,
        stopping: EarlyStopping,
    ) -> Self {
        Self {
            version: VERSION,
            identity,
            epoch: 1,
            step: 0,
            names: Vec::new(),
            losses: Vec::new(),
            gradient_norm: 0.0,
            epoch_seconds: 0.0,
            schedule,
            stopping,
            epochs: Vec::new(),
            phases: Phases::default(),
            ended: false,
        }
    }
}

/// A run at rest.
pub(super) struct State {
    pub(super) progress: Progress,
    /// `weight.<name>`, `best.<name>`, `adam.<state's name>`.
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl State {
    /// The tensors whose names begin with `prefix` and a dot, without it.
    pub(super) fn part(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = |(name, tensor): (&String, &Tensor)| {
            let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((name.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(named).collect()
    }

    fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        match serde_json::to_value(&self.progress) {
            Ok(Value::Object(header)) => seal(path, &self.tensors, KEY, header),
            Ok(_) => Err(Error::file(path, "its header is no JSON object")),
            Err(error) => Err(Error::file(path, error)),
        }
    }

    fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        verify(path, &bytes)?;
        let damaged = |error: String| Error::file(path, format!("damaged: {error}"));
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = text.ok_or_else(|| damaged(format!("no \"{KEY}\" in its header")))?;
        let value: Value = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        match value["version"].as_u64() {
            Some(version) if version != u64::from(VERSION) => {
                let message = format!("version {version}, this program reads {VERSION}");
                return Err(Error::file(path, message));
            }
            _ if value["checksum"].is_null() => return Err(damaged("no checksum".to_owned())),
            _ => {}
        }
        let progress = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        Ok(Self {
            progress,
            tensors: from_buffer(path, &bytes)?,
        })
    }
}
