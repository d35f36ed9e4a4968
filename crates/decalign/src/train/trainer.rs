//! The one trainer: data and settings for any model and criterion.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use decalign_data::{Dataset, Part};

use super::evaluation::{self, TaskLoss};
use super::{EpochReport, Evaluation, Model, PhaseTimes, TrainSettings};
use crate::metrics::Benchmark;
use crate::preprocess;
use crate::{Error, Result};

/// Trains any [`Model`] by any [`Criterion`](super::Criterion) on the parts of a data set.
///
/// The features are used unchanged: select modalities and standardise them first.
///
/// ```no_run
/// use candle_core::Device;
/// use decalign::Dataset;
/// use decalign::metrics::Benchmark;
/// use decalign::train::{Criterion, Model, ResumePolicy, Silent, Trainer, TrainSettings};
///
/// fn train<M: Model, C: Criterion<M>>(model: &M, criterion: &C) -> decalign::Result<()> {
///     let data = Dataset::open("mine.safetensors")?;
///     let settings = TrainSettings::default();
///     let trainer = Trainer::new(settings, &data, None, Benchmark::Classification, &Device::Cpu)?;
///     let resume = ResumePolicy::at("runs/mine");
///     let outcome = trainer.run(model, criterion, &resume, &mut Silent)?;
///     println!("{:?}", outcome.test.metrics.get("Acc"));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(super) settings: TrainSettings,
    pub(super) data: Dataset,
    pub(super) rows: [Vec<usize>; 3],
    pub(super) benchmark: Benchmark,
    pub(super) device: Device,
}

/// The result of a run. The model holds the weights of the best epoch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainingOutcome {
    /// The best epoch, counted from 1.
    pub best_epoch: usize,
    /// Weights of the best epoch.
    pub weights: BTreeMap<String, Tensor>,
    /// Reports of all epochs.
    pub epochs: Vec<EpochReport>,
    /// The best model on the validation part.
    pub valid: Evaluation,
    /// The best model on the test part.
    pub test: Evaluation,
    /// Wall time by phase.
    pub phases: PhaseTimes,
}

impl TrainingOutcome {
    /// Wall time of the run in seconds, without the test.
    pub fn seconds(&self) -> f64 {
        self.phases.training + self.phases.validation + self.phases.saving
    }
}

impl Trainer {
    /// Checks settings, data and benchmark against one another.
    ///
    /// # Errors
    /// When the data has no labels, labels of another kind than the benchmark takes, or an empty part; when a
    /// setting is out of its range.
    pub fn new(
        settings: TrainSettings,
        data: &Dataset,
        split: Option<&str>,
        benchmark: Benchmark,
        device: &Device,
    ) -> Result<Self> {
        let Some(labels) = data.labels() else {
            return Err(Error::invalid(format!(
                "{}: labels: missing, training needs them",
                data.origin()
            )));
        };
        if benchmark.is_regression() != labels.names().is_empty() {
            return Err(Error::invalid(format!(
                "{}: labels: not of the kind that the benchmark {} takes",
                data.origin(),
                benchmark.name()
            )));
        }
        settings.check(benchmark)?;
        let part = |part| data.part(split, part);
        Ok(Self {
            rows: [part(Part::Train)?, part(Part::Valid)?, part(Part::Test)?],
            settings,
            data: data.clone(),
            benchmark,
            device: device.clone(),
        })
    }

    /// The settings.
    pub fn settings(&self) -> &TrainSettings {
        &self.settings
    }

    /// The samples of the training, validation and test part.
    pub fn rows(&self) -> &[Vec<usize>; 3] {
        &self.rows
    }

    /// The benchmark that gives the metrics.
    pub fn benchmark(&self) -> Benchmark {
        self.benchmark
    }

    /// The average task loss (0 without one) and the evaluation of a model on some samples.
    pub(super) fn evaluate<M: Model>(
        &self,
        model: &M,
        rows: &[usize],
        loss: Option<&TaskLoss<'_>>,
    ) -> Result<(f64, Evaluation)> {
        let dtype = dtype(&model.variables());
        let batch = (self.settings.batch_size, dtype, &self.device);
        let loss = loss.map(|task| (task, self.settings.valid_loss));
        let (predictions, loss) = evaluation::predict(model, &self.data, rows, batch, loss)?;
        let labels = preprocess::labels(&self.data, rows);
        let evaluation = Evaluation {
            rows: rows.to_vec(),
            metrics: self.benchmark.evaluate(&predictions, &labels),
            predictions,
            labels,
        };
        Ok((loss, evaluation))
    }

    /// The hash that a state of this run must carry.
    pub(super) fn identity(&self, variables: &[(String, Var)], extra: &str) -> Result<String> {
        let settings = serde_json::to_string(&self.settings)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        text(extra);
        text(&settings);
        text(&format!("{:?}", self.rows));
        for (name, variable) in variables {
            text(name);
            text(&format!("{:?} {:?}", variable.dims(), variable.dtype()));
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// The dtype of a model's variables.
pub(super) fn dtype(variables: &[(String, Var)]) -> DType {
    variables
        .first()
        .map_or(DType::F32, |(_, variable)| variable.dtype())
}
