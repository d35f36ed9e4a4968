//! Executing one run in its folder: from its beginning, from its saved state, or not at all when it is done.

use std::path::Path;
use std::time::Duration;

use decalign::baseline::{BaselineSettings, BaselineTrainer, Method};
use decalign::train::{DecAlignTrainer, ModelOutcome, ResumePolicy};
use decalign::{Dataset, ErrorKind, Predictions};
use decalign_data::write_atomic;
use decalign_report::run_folder::{
    CONFIG, DataRecord, METRICS, PhaseSeconds, PredictionTable, RUN, RunFolder, RunMetrics,
    RunRecord, RunStatus, TEST_PREDICTIONS, VALID_PREDICTIONS, intervals, write_epochs, write_json,
    write_predictions,
};

use serde_json::{Map, Value, json};

use super::progress::{Display, Progress};
use super::{StopSignal, program};
use crate::memory_budget::MemoryBudget;
use crate::output::{CliResult, Failure, to_json};

/// The settings that all runs of a command share.
pub(crate) struct RunContext<'a> {
    pub(crate) data: &'a Dataset,
    pub(crate) save_every: Duration,
    pub(crate) stop: &'a StopSignal,
    pub(crate) budget: &'a MemoryBudget,
    pub(crate) display: Display,
    /// The name of the device.
    pub(crate) device: String,
    pub(crate) tensorboard: bool,
    /// Wall time before training.
    pub(crate) seconds: PhaseSeconds,
}

/// The model of a run, ready to be trained.
pub(crate) struct RunModel<'a> {
    /// DecAlign with the seed of the run; for a baseline it gives the configuration, the parts and the benchmark.
    pub(crate) trainer: DecAlignTrainer,
    pub(crate) baseline: Option<BaselineModel<'a>>,
}

/// A network of the literature, ready to be trained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BaselineModel<'a> {
    pub(crate) trainer: &'a BaselineTrainer,
    pub(crate) settings: &'a BaselineSettings,
    pub(crate) method: Method,
}

/// A finished run.
#[derive(Clone, Debug)]
pub(crate) struct TrainedRun {
    pub(crate) metrics: RunMetrics,
    /// Predictions on the test part.
    pub(crate) predictions: PredictionTable,
    /// True when an earlier command trained it.
    pub(crate) reused: bool,
}

impl RunContext<'_> {
    /// The record of a command's runs with these seeds that begin now.
    pub(crate) fn record(
        &self,
        trainer: &DecAlignTrainer,
        data: DataRecord,
        seeds: &[u64],
    ) -> RunRecord {
        let classes = classes(self.data);
        let mut record = RunRecord::begin(program(), trainer, classes, data, &self.device, seeds);
        record.tensorboard = self.tensorboard;
        record.seconds = self.seconds;
        record
    }

    /// Trains the model in a folder, resumes the run that was begun there, or reads the one that is done.
    pub(crate) fn run(
        &self,
        model: &RunModel<'_>,
        data: &DataRecord,
        folder: &RunFolder,
    ) -> CliResult<TrainedRun> {
        let path = folder.path();
        let begun = path.join(RUN).exists();
        let record = begun.then(|| RunRecord::open(path)).transpose()?;
        if record.as_ref().is_some_and(|r| r.status == RunStatus::Done) {
            return self.read(path, true);
        }
        let config = model.config()?;
        let record = match record {
            Some(record) => record,
            None => {
                write_atomic(&path.join(CONFIG), config.as_bytes())?;
                let seed = model.trainer.config().seed;
                let mut record = self.record(&model.trainer, data.clone(), &[seed]);
                record.model = model.name().to_owned();
                record
            }
        };
        let resume = ResumePolicy::at(path)
            .every(self.save_every)
            .identity(format!("{}\n{config}", data.fingerprint));
        let observed = (self.stop, self.budget);
        let epochs = model.epochs();
        let mut progress = Progress::new(record, epochs, self.display, path, observed);
        let Some(baseline) = model.baseline else {
            let file = folder.checkpoint();
            let trainer = &model.trainer;
            let outcome = trainer.run_resumable(Some(&file), &resume, &mut progress);
            return self.conclude(model, outcome, progress, folder, &resume);
        };
        let trainer = baseline.trainer.clone();
        let trainer = trainer.with_seed(model.trainer.config().seed);
        let outcome = trainer.run(baseline.method, &resume, &mut progress);
        self.conclude(model, outcome, progress, folder, &resume)
    }

    /// Writes the files of a run that ended, and reads the result of one that is done.
    fn conclude<M>(
        &self,
        model: &RunModel<'_>,
        outcome: decalign::Result<ModelOutcome<M>>,
        progress: Progress<'_>,
        folder: &RunFolder,
        resume: &ResumePolicy,
    ) -> CliResult<TrainedRun> {
        let path = folder.path();
        let (mut record, epochs) = progress.finish();
        match outcome {
            Ok(outcome) => {
                self.write(model, &outcome, path, record)?;
                resume.clear()?;
                self.read(path, false)
            }
            Err(error) => {
                record.status = match error.kind() {
                    ErrorKind::Interrupted => RunStatus::Stopped,
                    _ => RunStatus::Failed,
                };
                record.error = Some(error.to_string());
                // The first failure is the one to report.
                let _ = record.save(path);
                let _ = write_epochs(path, &epochs);
                Err(explain(error, folder))
            }
        }
    }

    /// Writes the files of a finished run; `run.json` last, because it says that the others are complete.
    fn write<M>(
        &self,
        model: &RunModel<'_>,
        outcome: &ModelOutcome<M>,
        path: &Path,
        mut record: RunRecord,
    ) -> CliResult {
        let [_, valid, test] = model.trainer.rows();
        let write = |name: &str, rows: &[usize], predictions: &Predictions| {
            write_predictions(&path.join(name), self.data, rows, predictions)
        };
        write(VALID_PREDICTIONS, valid, &outcome.valid_predictions)?;
        write(TEST_PREDICTIONS, test, &outcome.test_predictions)?;
        let table = PredictionTable::open(&path.join(TEST_PREDICTIONS), &record.classes)?;
        let benchmark = model.trainer.benchmark();
        let intervals = intervals(benchmark, "test", &table.scores, &table.labels);
        let metrics = RunMetrics::new(model.trainer.config().seed, outcome, intervals);
        write_epochs(path, &outcome.epochs)?;
        write_json(&path.join(METRICS), &metrics)?;
        record.seconds.phases = outcome.phases;
        record.parameters = Some(metrics.parameters);
        record.status = RunStatus::Done;
        record.error = None;
        Ok(record.save(path)?)
    }

    fn read(&self, path: &Path, reused: bool) -> CliResult<TrainedRun> {
        Ok(TrainedRun {
            metrics: RunMetrics::open(path)?,
            predictions: PredictionTable::open(&path.join(TEST_PREDICTIONS), &classes(self.data))?,
            reused,
        })
    }
}

impl RunModel<'_> {
    pub(crate) fn name(&self) -> &'static str {
        self.baseline.map_or("DecAlign", |b| b.method.name())
    }

    /// The largest number of epochs.
    fn epochs(&self) -> usize {
        let epochs = self.trainer.config().num_epochs;
        self.baseline.map_or(epochs, |b| b.settings.epochs)
    }

    /// The text of `config.json`; for a baseline with the entry `baseline`: its method and settings.
    pub(crate) fn config(&self) -> CliResult<String> {
        let mut text = self.trainer.config().to_json()?;
        if let Some(baseline) = self.baseline {
            let settings = json!({"method": baseline.method, "settings": baseline.settings});
            let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
            config.insert("baseline".to_owned(), settings);
            text = to_json(&config)?;
        }
        Ok(text + "\n")
    }
}

fn explain(error: decalign::Error, folder: &RunFolder) -> Failure {
    let diverged = error.kind() == ErrorKind::Diverged;
    let mut failure = Failure::from(error);
    let file = folder.checkpoint();
    if diverged && file.exists() {
        failure.message += &format!(" (the last good model is {})", file.display());
    }
    failure
}

/// The names of the classes; none for scores.
pub(crate) fn classes(data: &Dataset) -> Vec<String> {
    data.labels()
        .map(|l| l.names().to_vec())
        .unwrap_or_default()
}
