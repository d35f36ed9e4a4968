//! The saved state of an interrupted run.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EpochReport, PhaseTimes};
use crate::checkpoint::{from_buffer, seal, verify};
use crate::optim::{EarlyStopping, ReduceOnPlateau};
use crate::{Error, Result};

/// The key of the header's entry.
const KEY: &str = "decalign_state";
/// The version of the format.
const VERSION: u32 = 1;

/// The part of a state that is not tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) version: u32,
    pub(super) identity: String,
    /// The current epoch, counted from 1.
    pub(super) epoch: usize,
    /// Finished steps of the current epoch.
    pub(super) step: usize,
    /// Names of the losses; empty before the first step.
    pub(super) names: Vec<String>,
    /// Losses summed over this epoch's samples so far, divided by the number of its samples.
    pub(super) losses: Vec<f64>,
    pub(super) gradient_norm: f64,
    pub(super) epoch_seconds: f64,
    pub(super) schedule: ReduceOnPlateau,
    pub(super) stopping: EarlyStopping,
    pub(super) epochs: Vec<EpochReport>,
    pub(super) phases: PhaseTimes,
    /// True when no epoch is left.
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
            phases: PhaseTimes::default(),
            ended: false,
        }
    }
}

/// An interrupted run: progress and tensors.
pub(super) struct State {
    pub(super) progress: Progress,
    /// `weight.<name>`, `best.<name>`, `adam.<state's name>`.
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl State {
    /// The tensors named `prefix.NAME`, by NAME.
    pub(super) fn part(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = |(name, tensor): (&String, &Tensor)| {
            let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((name.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(named).collect()
    }

    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        match serde_json::to_value(&self.progress) {
            Ok(Value::Object(header)) => seal(path, &self.tensors, KEY, header),
            Ok(_) => Err(Error::file(path, "its header is no JSON object")),
            Err(error) => Err(Error::file(path, error)),
        }
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
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
