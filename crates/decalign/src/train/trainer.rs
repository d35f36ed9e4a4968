//! A training run of DecAlign.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_data::{Dataset, Labels, Standardizer};

use super::{
    EpochReport, Fit, Flow, Judged, Keep, Observer, Phases, Start, StepReport, TrainSettings,
};
use crate::checkpoint::Checkpoint;
use crate::config::{ClassWeight, Config, Resolved, Task, check_batches};
use crate::inputs;
use crate::metrics::{Benchmark, Metrics};
use crate::model::DecAlign;
use crate::objective::{Objective, class_weights};
use crate::{Error, Predictions, Result};

/// Data and settings that fit one another, ready to train.
///
/// ```
/// use candle_core::Device;
/// use decalign::config::Config;
/// use decalign::train::{Silent, Trainer};
/// use decalign_data::Dataset;
///
/// let mut config = Config::preset("mfeat")?;
/// for set in ["modalities=fou,mor", "nlevels=1", "num_epochs=1"] {
///     config.set(set)?;
/// }
/// let outcome = Trainer::new(&config, &Dataset::mfeat()?, &Device::Cpu)?.run(None, &mut Silent)?;
/// println!("{:?}", outcome.test.get("Acc"));
/// # Ok::<(), decalign::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trainer {
    settings: Resolved,
    fit: Fit,
    standardizer: Option<Standardizer>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The model of the best epoch.
    pub checkpoint: Checkpoint,
    /// The best epoch, counted from 1.
    pub best_epoch: usize,
    /// Every epoch.
    pub epochs: Vec<EpochReport>,
    /// Figures of the best model on the validation part.
    pub valid: Metrics,
    /// Figures of the best model on the test part.
    pub test: Metrics,
    /// Its predictions of the validation part, in the order of [`Trainer::rows`].
    pub valid_predictions: Predictions,
    /// Its predictions of the test part.
    pub test_predictions: Predictions,
    /// Wall time by phase.
    pub phases: Phases,
    /// Wall time of training, without the test.
    pub seconds: f64,
}

impl Trainer {
    /// Checks a configuration against data and prepares both: selects modalities, fits the
    /// standardisation to the training part.
    ///
    /// # Errors
    /// When they do not fit one another; the message names the key or the field.
    pub fn new(config: &Config, data: &Dataset, device: &Device) -> Result<Self> {
        let data = inputs::select(data, config)?;
        if data.labels().is_none() {
            return Err(Error::invalid(format!(
                "{}: labels: missing, training needs them",
                data.origin()
            )));
        }
        let settings = config.resolve(&data)?;
        let split = config.split.as_deref();
        let how = TrainSettings::from(&settings.config);
        let mut fit = Fit::new(how, &data, split, settings.benchmark(), device)?;
        check_batches(&settings.model, fit.rows[0].len())?;
        let standardizer = inputs::standardizer(&data, &fit.rows[0], config)?;
        fit.data = inputs::standardize(&data, standardizer.as_ref())?.into_owned();
        Ok(Self {
            settings,
            fit,
            standardizer,
        })
    }

    /// The same with another seed; what was prepared is shared, not copied.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.settings.config.seed = seed;
        self.fit.settings.seed = seed;
        self
    }

    /// The configuration with everything filled in.
    pub fn config(&self) -> &Config {
        &self.settings.config
    }

    /// The samples of the training, validation and test part.
    pub fn rows(&self) -> &[Vec<usize>; 3] {
        self.fit.rows()
    }

    /// The figures that predictions are judged by.
    pub fn benchmark(&self) -> Benchmark {
        self.fit.benchmark()
    }

    /// Trains until the last epoch or until the validation metric has stopped improving.
    ///
    /// With a `file`, every best model so far is written there, whole or not at all.
    ///
    /// # Errors
    /// When a loss or gradient is not finite (the file then holds the last good model), or the
    /// file cannot be written.
    pub fn run(&self, file: Option<&Path>, observer: &mut dyn Observer) -> Result<Outcome> {
        self.run_resumable(file, &Keep::nothing(), observer)
    }

    /// As [`Trainer::run`], with a state to go on from when the run is interrupted.
    ///
    /// # Errors
    /// As [`Trainer::run`] and [`Fit::run`].
    pub fn run_resumable(
        &self,
        file: Option<&Path>,
        keep: &Keep,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let seed = self.config().seed;
        let model = DecAlign::new(&self.settings.model, seed, DType::F32, &self.fit.device)?;
        let config = self.config();
        if let Some(folder) = config.pretrained.as_ref().filter(|_| config.use_bert) {
            model.load_text_encoder(folder)?;
        }
        let objective = Objective::new(&self.settings.objective, self.class_weights());
        let mut saver = Saver {
            trainer: self,
            file,
            observer,
        };
        let fitted = self.fit.run(&model, &objective, keep, &mut saver)?;
        let predictions = |judged: &Judged| {
            let outputs = self.settings.model.outputs;
            Predictions::new(judged.predictions.clone(), self.classes(), outputs)
        };
        let phases = fitted.phases;
        Ok(Outcome {
            best_epoch: fitted.best_epoch,
            epochs: fitted.epochs,
            valid_predictions: predictions(&fitted.valid),
            test_predictions: predictions(&fitted.test),
            valid: fitted.valid.metrics,
            test: fitted.test.metrics,
            checkpoint: self.checkpoint(fitted.weights),
            phases,
            seconds: phases.training + phases.validation + phases.saving,
        })
    }

    fn checkpoint(&self, weights: BTreeMap<String, Tensor>) -> Checkpoint {
        Checkpoint {
            config: self.config().clone(),
            standardizer: self.standardizer.clone(),
            classes: self.classes(),
            weights,
        }
    }

    /// The names of the classes; none for scores.
    fn classes(&self) -> Vec<String> {
        let labels = self.fit.data.labels();
        labels.map(|l| l.names().to_vec()).unwrap_or_default()
    }

    fn class_weights(&self) -> Option<Vec<f64>> {
        let Task::Classification {
            classes,
            class_weight: ClassWeight::Balanced,
        } = self.settings.objective.task
        else {
            return None;
        };
        let Some(Labels::Classes { values, .. }) = self.fit.data.labels() else {
            return None;
        };
        let labels = self.fit.rows[0].iter().map(|row| values[*row] as usize);
        Some(class_weights(classes, &labels.collect::<Vec<_>>()))
    }
}

/// Writes every best model so far, and tells everything on.
struct Saver<'a> {
    trainer: &'a Trainer,
    file: Option<&'a Path>,
    observer: &'a mut dyn Observer,
}

impl Observer for Saver<'_> {
    fn begin(&mut self, start: &Start<'_>) -> Result<()> {
        self.observer.begin(start)
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow> {
        self.observer.step(report)
    }

    fn best(&mut self, epoch: usize, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        if let Some(file) = self.file {
            self.trainer.checkpoint(weights.clone()).save(file)?;
        }
        self.observer.best(epoch, weights)
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<Flow> {
        self.observer.epoch(report)
    }
}
