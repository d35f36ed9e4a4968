//! `run.json`: the circumstances of a run, which its configuration does not hold, and its progress.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use decalign::Dataset;
use decalign::core::simd;
use decalign::train::{DecAlignTrainer, PhaseTimes};
use decalign_data::Result;
use serde::{Deserialize, Serialize};

use super::{RUN, invalid, read_json, write_json};
use crate::ExperimentKind;

/// The version of the layout.
const FORMAT: u32 = 1;

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunStatus {
    /// Training, or ended without a word (a crash, `kill -9`).
    Running,
    /// Paused by Ctrl-C.
    Stopped,
    /// Ended by an error.
    Failed,
    /// Finished.
    Done,
}

/// The content of `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecord {
    /// The version of the layout.
    pub format: u32,
    /// The progress.
    pub status: RunStatus,
    /// The error of a failed run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The kind of experiment, in the folder of an experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentKind>,
    /// The program.
    pub program: ProgramRecord,
    /// The arguments with which the run was begun.
    pub command: Vec<String>,
    /// `DecAlign`, or the name of a baseline.
    pub model: String,
    /// The number of parameters, once the run is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<usize>,
    /// The seed of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The seeds of several runs in this folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// The name of the benchmark.
    pub benchmark: String,
    /// The names of the classes, in the order of the columns `score_*`; empty for scores.
    pub classes: Vec<String>,
    /// The data.
    pub data: DataRecord,
    /// The machine.
    pub machine: MachineRecord,
    /// True when TensorBoard events are written.
    pub tensorboard: bool,
    /// Seconds since 1970.
    pub started: f64,
    /// Wall time by phase.
    pub seconds: PhaseSeconds,
    /// One entry each time the run was begun or resumed.
    pub sessions: Vec<SessionRecord>,
}

/// The program that trains.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProgramRecord {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The compiler's version.
    pub rustc: String,
    /// Candle's version.
    pub candle: String,
    /// Enabled features.
    pub features: Vec<String>,
}

/// The data that a run is trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataRecord {
    /// The path as given.
    pub source: String,
    /// The absolute path; `None` for embedded data.
    pub path: Option<PathBuf>,
    /// A hash of the content that the run depends on.
    pub fingerprint: String,
    /// The number of samples.
    pub samples: usize,
    /// The name of the split.
    pub split: Option<String>,
    /// The number of training samples.
    pub train: usize,
    /// The number of validation samples.
    pub valid: usize,
    /// The number of test samples.
    pub test: usize,
    /// The modalities.
    pub modalities: Vec<ModalityRecord>,
}

/// The name and the shape of a modality.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModalityRecord {
    /// The modality's name.
    pub name: String,
    /// Steps T of its sequences.
    pub steps: usize,
    /// Features D of a step.
    pub width: usize,
}

/// The machine on which a run was begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MachineRecord {
    /// The device, as `--device` names it.
    pub device: String,
    /// Threads that compute.
    pub threads: usize,
    /// The instruction set of the vector loops.
    pub instruction_set: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
}

/// Wall time by phase, all sessions together except for the work that an interruption lost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhaseSeconds {
    /// Reading the data.
    pub loading: f64,
    /// Standardisation and fingerprint.
    pub preparing: f64,
    /// The phases of training.
    #[serde(flatten)]
    pub phases: PhaseTimes,
}

/// One process that worked on the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionRecord {
    /// Seconds since 1970.
    pub started: f64,
    /// The epoch with which it began, counted from 1.
    pub epoch: usize,
    /// The number of steps of this epoch that were done before.
    pub step: usize,
    /// The number of threads.
    pub threads: usize,
    /// The instruction set of the loops.
    pub instruction_set: String,
}

impl SessionRecord {
    /// A session of this process that begins now.
    pub fn begin(epoch: usize, step: usize) -> Self {
        Self {
            started: unix_time(),
            epoch,
            step,
            threads: rayon::current_num_threads(),
            instruction_set: instruction_set(),
        }
    }
}

impl RunRecord {
    /// The record of a run that begins, with one seed or several.
    pub fn begin(
        program: ProgramRecord,
        trainer: &DecAlignTrainer,
        classes: Vec<String>,
        data: DataRecord,
        device: &str,
        seeds: &[u64],
    ) -> Self {
        let one = match seeds {
            [seed] => Some(*seed),
            _ => None,
        };
        Self {
            format: FORMAT,
            status: RunStatus::Running,
            error: None,
            experiment: None,
            program,
            command: std::env::args().skip(1).collect(),
            model: "DecAlign".to_owned(),
            parameters: None,
            seed: one,
            seeds: one.is_none().then(|| seeds.to_vec()),
            benchmark: trainer.benchmark().name().to_owned(),
            classes,
            data,
            machine: MachineRecord {
                device: device.to_owned(),
                threads: rayon::current_num_threads(),
                instruction_set: instruction_set(),
                os: std::env::consts::OS.to_owned(),
                arch: std::env::consts::ARCH.to_owned(),
            },
            tensorboard: false,
            started: unix_time(),
            seconds: PhaseSeconds::default(),
            sessions: Vec::new(),
        }
    }

    /// Reads the record of a folder.
    ///
    /// # Errors
    /// When the folder has none, or a newer version wrote it.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(RUN);
        if !path.exists() {
            let message = "not there: no run was begun in this folder; train anew";
            return Err(invalid(&path, message));
        }
        let record: Self = read_json(&path)?;
        match record.format > FORMAT {
            true => {
                let format = record.format;
                let message = format!("format {format}, this program reads up to {FORMAT}");
                Err(invalid(&path, message))
            }
            false => Ok(record),
        }
    }

    /// Writes the record to a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(RUN), self)
    }

    /// The seeds of the run, one or several.
    pub fn seeds(&self) -> Vec<u64> {
        self.seeds
            .clone()
            .or(self.seed.map(|seed| vec![seed]))
            .unwrap_or_default()
    }
}

impl DataRecord {
    /// The record of a data set and of the parts that a trainer uses.
    pub fn new(
        source: &Path,
        data: &Dataset,
        fingerprint: String,
        trainer: &DecAlignTrainer,
    ) -> Self {
        let modality = |m: &decalign_data::Modality| ModalityRecord {
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

/// The name of the instruction set of the vectorised loops.
pub fn instruction_set() -> String {
    format!("{:?}", simd::level()).to_lowercase()
}

/// Seconds since 1970.
pub fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
