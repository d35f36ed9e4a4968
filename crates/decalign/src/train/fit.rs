//! Training of any model by any criterion.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use decalign_data::{Dataset, Part};

use super::run::Run;
use super::{Criterion, EpochReport, Keep, Model, Observer, Phases, TrainSettings};
use crate::inputs;
use crate::metrics::{Benchmark, Metrics};
use crate::{Error, Result};

/// Data, settings and a benchmark that fit one another, ready to train any [`Model`].
///
/// The data is taken as it is: select modalities and standardise before.
///
/// ```no_run
/// use candle_core::Device;
/// use decalign::Dataset;
/// use decalign::metrics::Benchmark;
/// use decalign::train::{Criterion, Fit, Keep, Model, Silent, TrainSettings};
///
/// fn train<M: Model, C: Criterion<M>>(model: &M, criterion: &C) -> decalign::Result<()> {
///     let data = Dataset::open("mine.safetensors")?;
///     let fit = Fit::new(TrainSettings::default(), &data, None, Benchmark::Classification, &Device::Cpu)?;
///     let fitted = fit.run(model, criterion, &Keep::at("runs/mine"), &mut Silent)?;
///     println!("{:?}", fitted.test.metrics.get("Acc"));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Fit {
    pub(super) settings: TrainSettings,
    pub(super) data: Dataset,
    pub(super) rows: [Vec<usize>; 3],
    pub(super) benchmark: Benchmark,
    pub(super) device: Device,
}

/// How a run ended. The model has the weights of the best epoch then.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The best epoch, counted from 1.
    pub best_epoch: usize,
    /// Its weights.
    pub weights: BTreeMap<String, Tensor>,
    /// Every epoch.
    pub epochs: Vec<EpochReport>,
    /// The best model on the validation part.
    pub valid: Judged,
    /// The best model on the test part.
    pub test: Judged,
    /// Wall time by phase.
    pub phases: Phases,
}

/// What a model makes of some samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Which samples of the data set.
    pub rows: Vec<usize>,
    /// Their predictions, each one score or the scores of classes.
    pub predictions: Vec<f32>,
    /// Their labels.
    pub labels: Vec<f32>,
    /// The benchmark's figures.
    pub metrics: Metrics,
}

impl Fit {
    /// Checks settings, data and benchmark against one another.
    ///
    /// # Errors
    /// When the data has no labels, labels of another kind than the benchmark judges, or an empty part; when a
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
                "{}: labels: not what the benchmark {} judges",
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

    /// The figures that predictions are judged by.
    pub fn benchmark(&self) -> Benchmark {
        self.benchmark
    }

    /// Trains until the last epoch, or until the validation figure has stopped improving, or until the observer
    /// says so.
    ///
    /// Where `keep` has a state, the run goes on from there.
    ///
    /// # Errors
    /// When a loss or gradient is not finite, when a state cannot be written or is of another run, with kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted) when the observer paused the run, and whatever the model, the
    /// criterion or the observer returns.
    pub fn run<M: Model, C: Criterion<M>>(
        &self,
        model: &M,
        criterion: &C,
        keep: &Keep,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let mut run = Run::begin(self, model, criterion, keep, observer)?;
        while run.epoch(observer)? {}
        run.conclude()
    }

    /// Predictions, loss and figures of a model on some samples.
    pub(super) fn judge<M: Model>(
        &self,
        model: &M,
        rows: &[usize],
        loss: Option<&inputs::TaskLoss<'_>>,
    ) -> Result<(f64, Judged)> {
        let dtype = dtype(&model.variables());
        let batch = (self.settings.batch_size, dtype, &self.device);
        let done = inputs::evaluate(model, &self.data, rows, batch, loss)?;
        let labels = inputs::labels(&self.data, rows);
        let judged = Judged {
            rows: rows.to_vec(),
            metrics: self.benchmark.evaluate(&done.predictions, &labels),
            predictions: done.predictions,
            labels,
        };
        Ok((done.loss, judged))
    }

    /// What a state of this run is recognised by.
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

/// The type of a model's numbers.
pub(super) fn dtype(variables: &[(String, Var)]) -> DType {
    variables
        .first()
        .map_or(DType::F32, |(_, variable)| variable.dtype())
}
