//! `run.json`: what a run needs to be repeated, besides its configuration, and how far it is.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use decalign::Dataset;
use decalign::core::simd;
use decalign::train::{DecAlignTrainer, PhaseTimes};
use serde::{Deserialize, Serialize};

use crate::output::{Done, Failure};

/// The version of the layout.
const FORMAT: u32 = 1;
/// The file.
pub(crate) const RUN: &str = "run.json";

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Running,
    Stopped,
    Failed,
    Done,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) program: Program,
    pub(crate) command: Vec<String>,
    pub(crate) model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameters: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seeds: Option<Vec<u64>>,
    pub(crate) benchmark: String,
    pub(crate) classes: Vec<String>,
    pub(crate) data: Data,
    pub(crate) machine: Machine,
    pub(crate) tensorboard: bool,
    pub(crate) started: f64,
    pub(crate) seconds: Seconds,
    pub(crate) sessions: Vec<Session>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    name: String,
    version: String,
    rustc: String,
    candle: String,
    features: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Data {
    /// As given.
    pub(crate) source: String,
    /// Absolute; none for embedded data.
    pub(crate) path: Option<PathBuf>,
    pub(crate) fingerprint: String,
    pub(crate) samples: usize,
    pub(crate) split: Option<String>,
    pub(crate) train: usize,
    pub(crate) valid: usize,
    pub(crate) test: usize,
    pub(crate) modalities: Vec<Modality>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Modality {
    name: String,
    steps: usize,
    width: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) device: String,
    pub(crate) threads: usize,
    pub(crate) instruction_set: String,
    os: String,
    arch: String,
}

/// Wall time by phase, all sessions together but for what an interruption lost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seconds {
    /// Reading the data.
    pub(crate) loading: f64,
    /// Standardisation, fingerprint.
    pub(crate) preparing: f64,
    #[serde(flatten)]
    pub(crate) phases: PhaseTimes,
}

/// One process that worked on the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) started: f64,
    pub(crate) epoch: usize,
    pub(crate) step: usize,
    pub(crate) threads: usize,
    pub(crate) instruction_set: String,
}

/// What all runs of one command have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) device: String,
    pub(crate) data: Data,
    pub(crate) tensorboard: bool,
    pub(crate) loading: f64,
    pub(crate) preparing: f64,
}

impl Record {
    /// The record of a run that begins; several seeds, or one.
    pub(crate) fn new(
        trainer: &DecAlignTrainer,
        classes: Vec<String>,
        common: &Common,
        seeds: &[u64],
    ) -> Self {
        let one = match seeds {
            [seed] => Some(*seed),
            _ => None,
        };
        Self {
            format: FORMAT,
            status: Status::Running,
            error: None,
            program: Program::this(),
            command: std::env::args().skip(1).collect(),
            model: "DecAlign".to_owned(),
            parameters: None,
            seed: one,
            seeds: one.is_none().then(|| seeds.to_vec()),
            benchmark: trainer.benchmark().name().to_owned(),
            classes,
            data: common.data.clone(),
            machine: Machine::this(&common.device),
            tensorboard: common.tensorboard,
            started: now(),
            seconds: Seconds {
                loading: common.loading,
                preparing: common.preparing,
                ..Seconds::default()
            },
            sessions: Vec::new(),
        }
    }

    /// Reads the record of a folder.
    pub(crate) fn open(folder: &Path) -> Done<Self> {
        let path = folder.join(RUN);
        let bad = |message: String| Failure::bad_input(format!("{}: {message}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(bad(
                    "not there: no run was begun in this folder; train anew".to_owned(),
                ));
            }
            Err(error) => return Err(bad(error.to_string())),
        };
        let record: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        match record.format > FORMAT {
            true => Err(bad(format!(
                "format {}, this program reads up to {FORMAT}",
                record.format
            ))),
            false => Ok(record),
        }
    }

    /// The seeds of the run, one or several.
    pub(crate) fn seeds(&self) -> Vec<u64> {
        self.seeds
            .clone()
            .or(self.seed.map(|seed| vec![seed]))
            .unwrap_or_default()
    }
}

impl Data {
    pub(crate) fn new(
        source: &Path,
        data: &Dataset,
        fingerprint: String,
        trainer: &DecAlignTrainer,
    ) -> Self {
        let modality = |m: &decalign_data::Modality| Modality {
            name: m.name().to_owned(),
            steps: m.steps(),
            width: m.width(),
        };
        let [train, valid, test] = trainer.rows().each_ref().map(Vec::len);
        Self {
            source: source.display().to_string(),
            path: std::fs::canonicalize(source).ok(),
            fingerprint,
            samples: data.len(),
            split: trainer.config().split.clone(),
            train,
            valid,
            test,
            modalities: data.modalities().iter().map(modality).collect(),
        }
    }
}

impl Program {
    fn this() -> Self {
        let features = [
            ("cuda", cfg!(feature = "cuda")),
            ("metal", cfg!(feature = "metal")),
            ("mkl", cfg!(feature = "mkl")),
            ("accelerate", cfg!(feature = "accelerate")),
        ];
        Self {
            name: env!("CARGO_PKG_NAME").trim_end_matches("-cli").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rustc: env!("DECALIGN_RUSTC").to_owned(),
            candle: env!("DECALIGN_CANDLE").to_owned(),
            features: features
                .into_iter()
                .filter(|(_, on)| *on)
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }
}

impl Machine {
    fn this(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            threads: rayon::current_num_threads(),
            instruction_set: instruction_set(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// The instruction set that loops run in.
pub(crate) fn instruction_set() -> String {
    format!("{:?}", simd::level()).to_lowercase()
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
