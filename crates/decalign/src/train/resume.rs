//! Where and how often a run saves its state.

use std::path::PathBuf;
use std::time::Duration;

use decalign_data::write_atomic;

use super::state::State;
use crate::{Error, Result};

/// The newest state.
const NEWEST: &str = "state.safetensors";
/// The state before it: a fallback while the newest is written, and if the newest is damaged.
const PREVIOUS: &str = "state-previous.safetensors";
/// A damaged state that was put aside.
const DAMAGED: &str = "state-damaged.safetensors";
/// Where and how often a run saves its state, so that it can be interrupted at any moment and resumed.
///
/// The state holds everything that the rest of the run depends on: weights, the optimiser's moments, the schedule of
/// the learning rate, the best weights so far, the history, and the position in the order of batches. Random numbers
/// are drawn by seed, epoch and step, so generators have no further state. It is saved at the end of an epoch (once a
/// second at most) and, if epochs are long, between steps. A resumed run ends with the same bits as an uninterrupted
/// one.
///
/// ```
/// use std::time::Duration;
/// use decalign::train::ResumePolicy;
/// let resume = ResumePolicy::at("runs/mine").every(Duration::from_secs(10));
/// # assert!(!resume.has_state());
/// ```
#[derive(Clone, Debug)]
pub struct ResumePolicy {
    folder: Option<PathBuf>,
    every: Duration,
    identity: String,
}

impl ResumePolicy {
    /// Saves nothing: an interrupted run starts again.
    pub fn none() -> Self {
        Self {
            folder: None,
            every: Duration::from_secs(60),
            identity: String::new(),
        }
    }

    /// Saves the state in a folder, and resumes from a state that is there.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
            ..Self::none()
        }
    }

    /// Saves between steps once this much time has passed since the last save (default: one minute). Zero saves after
    /// every step and every epoch.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Identifies the run, for example by its data's [`fingerprint`](crate::fingerprint) and its configuration: a
    /// state with another identity is refused.
    pub fn identity(self, identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            ..self
        }
    }

    /// True if there is a state to resume from.
    pub fn has_state(&self) -> bool {
        let there = |name| self.folder.as_ref().is_some_and(|f| f.join(name).exists());
        there(NEWEST) || there(PREVIOUS)
    }

    /// Removes the states of a finished run.
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

    pub(super) fn is_enabled(&self) -> bool {
        self.folder.is_some()
    }

    pub(super) fn run_identity(&self) -> &str {
        &self.identity
    }

    pub(super) fn is_due(&self, since: Duration) -> bool {
        self.folder.is_some() && since >= self.every
    }

    /// Epochs shorter than a second are not saved one by one.
    pub(super) fn is_due_after_epoch(&self, since: Duration) -> bool {
        self.folder.is_some() && since >= self.every.min(Duration::from_secs(1))
    }

    /// Saves a state and keeps the one before it.
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
                true => "the previous state is kept; free some space, then resume",
                false => "no earlier state exists",
            };
            Error::invalid(format!("{error}; {message}"))
        })
    }

    /// The newest undamaged state, and the damage of a newer one.
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
                        State::open(&previous).map_err(|second| unreadable(&error, &second))?;
                    let aside = folder.join(DAMAGED);
                    std::fs::rename(&newest, &aside).map_err(|e| Error::file(&newest, e))?;
                    let told = format!("{error}; moved to {DAMAGED}, resuming from {PREVIOUS}");
                    (state, Some(told))
                }
                (Err(error), false) => {
                    return Err(unreadable(&error, &"there is no previous state"));
                }
            },
            (false, true) => (State::open(&previous)?, None),
        };
        if found.0.progress.identity != identity {
            return Err(Error::file(
                &newest,
                "belongs to another run: configuration, data or model have changed since; restore them, or train in another folder",
            ));
        }
        Ok(Some(found))
    }
}

impl Default for ResumePolicy {
    fn default() -> Self {
        Self::none()
    }
}

fn unreadable(newest: &Error, previous: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!(
        "{newest} ({previous}); remove state*.safetensors to start again"
    ))
}
