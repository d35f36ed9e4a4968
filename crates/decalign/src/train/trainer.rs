//! A training run.

use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device};
use decalign_data::{BatchSampler, Dataset, Labels, Part, Standardizer};

use super::epoch::Epoch;
use super::{EpochReport, Observer};
use crate::checkpoint::Checkpoint;
use crate::config::{ClassWeight, Config, Mode, Resolved, Task, check_batches};
use crate::inputs;
use crate::metrics::{Benchmark, Metrics};
use crate::model::DecAlign;
use crate::objective::{Objective, class_weights};
use crate::optim::{Adam, AdamSettings, EarlyStopping, ReduceOnPlateau};
use crate::{Error, Result};

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
    data: Dataset,
    standardizer: Option<Standardizer>,
    rows: [Vec<usize>; 3],
    benchmark: Benchmark,
    device: Device,
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
        let part = |part| data.part(config.split.as_deref(), part);
        let rows = [part(Part::Train)?, part(Part::Valid)?, part(Part::Test)?];
        check_batches(&settings.model, rows[0].len())?;
        let standardizer = inputs::standardizer(&data, &rows[0], config)?;
        let data = inputs::standardize(&data, standardizer.as_ref())?.into_owned();
        let benchmark = settings.benchmark();
        let trainer = Self {
            settings,
            data,
            standardizer,
            rows,
            benchmark,
            device: device.clone(),
        };
        trainer.criterion(
            &config.selection_metric,
            config.selection_mode,
            "selection_metric",
        )?;
        trainer.criterion(
            &config.scheduler_metric,
            config.scheduler_mode,
            "scheduler_metric",
        )?;
        Ok(trainer)
    }

    /// The configuration with everything filled in.
    pub fn config(&self) -> &Config {
        &self.settings.config
    }

    /// Trains until the last epoch or until the validation metric has stopped improving.
    ///
    /// With a `file`, every best model so far is written there, whole or not at all.
    ///
    /// # Errors
    /// When a loss or gradient is not finite (the file then holds the last good model), or the
    /// file cannot be written.
    pub fn run(&self, file: Option<&Path>, observer: &mut dyn Observer) -> Result<Outcome> {
        let start = Instant::now();
        let config = self.config();
        let model = DecAlign::new(&self.settings.model, config.seed, DType::F32, &self.device)?;
        if let Some(folder) = config.pretrained.as_ref().filter(|_| config.use_bert) {
            model.load_text_encoder(folder)?;
        }
        let objective = Objective::new(&self.settings.objective, self.class_weights());
        let mut adam = Adam::new(
            model.variables(),
            AdamSettings::new(config.weight_decay, config.clip),
        );
        let sampler = BatchSampler::new(self.rows[0].clone(), config.batch_size, config.seed)?;
        let (selection, goal) = self.criterion(
            &config.selection_metric,
            config.selection_mode,
            "selection_metric",
        )?;
        let mut stopping = EarlyStopping::new(goal, config.early_stop_patience);
        let (watched, goal) = self.criterion(
            &config.scheduler_metric,
            config.scheduler_mode,
            "scheduler_metric",
        )?;
        let mut schedule = ReduceOnPlateau::new(goal, config.factor, config.scheduler_patience);
        let (data, device) = (&self.data, &self.device);
        let pass = Epoch {
            model: &model,
            objective: &objective,
            data,
            sampler: &sampler,
            config,
            device,
        };
        let (mut scale, mut best, mut epochs) = (1.0, None, Vec::new());
        for epoch in 1..=config.num_epochs {
            let begun = Instant::now();
            let trained = pass.run(epoch, scale, &mut adam, observer)?;
            let (loss, metrics) = self.measure(&model, &self.rows[1], Some(&objective))?;
            if !loss.is_finite() {
                return Err(Error::diverged(
                    format!("the validation loss is {loss}"),
                    epoch,
                    sampler.len(),
                ));
            }
            let metric = |name: &Option<&str>| name.map_or(Some(loss), |name| metrics.get(name));
            let is_best = stopping.observe(epoch, metric(&selection).unwrap_or(f64::NAN));
            if is_best {
                let checkpoint = self.checkpoint(&model)?;
                file.map(|file| checkpoint.save(file)).transpose()?;
                best = Some((epoch, checkpoint));
            }
            let report = EpochReport {
                epoch,
                learning_rate: scale * config.learning_rate,
                training: trained.losses,
                gradient_norm: trained.gradient_norm,
                validation_loss: loss,
                validation: metrics.clone(),
                best: is_best,
                seconds: begun.elapsed().as_secs_f64(),
            };
            observer.epoch(&report)?;
            epochs.push(report);
            scale = schedule.observe(metric(&watched).unwrap_or(f64::NAN));
            if stopping.exhausted(epoch) {
                break;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let Some((best_epoch, checkpoint)) = best else {
            return Err(Error::invalid(
                "the validation metric was never a number: no model to keep",
            ));
        };
        let best_model = checkpoint.model(&self.device)?;
        let (_, valid) = self.measure(&best_model, &self.rows[1], None)?;
        let (_, test) = self.measure(&best_model, &self.rows[2], None)?;
        Ok(Outcome {
            checkpoint,
            best_epoch,
            epochs,
            valid,
            test,
            seconds,
        })
    }

    /// Loss and figures of a model on some samples.
    fn measure(
        &self,
        model: &DecAlign,
        rows: &[usize],
        objective: Option<&Objective>,
    ) -> Result<(f64, Metrics)> {
        let batch = self.config().batch_size;
        let done = inputs::evaluate(model, &self.data, rows, batch, objective, &self.device)?;
        let labels = inputs::labels(&self.data, rows);
        Ok((
            done.loss,
            self.benchmark.evaluate(&done.predictions, &labels),
        ))
    }

    fn checkpoint(&self, model: &DecAlign) -> Result<Checkpoint> {
        // The optimiser changes parameters in place: copies stay.
        let weights = model
            .variables()
            .into_iter()
            .map(|(name, var)| Ok((name, var.as_tensor().copy()?)));
        Ok(Checkpoint {
            config: self.config().clone(),
            standardizer: self.standardizer.clone(),
            classes: self
                .data
                .labels()
                .map(|l| l.names().to_vec())
                .unwrap_or_default(),
            weights: weights.collect::<Result<_>>()?,
        })
    }

    fn class_weights(&self) -> Option<Vec<f64>> {
        let Task::Classification {
            classes,
            class_weight: ClassWeight::Balanced,
        } = self.settings.objective.task
        else {
            return None;
        };
        let Some(Labels::Classes { values, .. }) = self.data.labels() else {
            return None;
        };
        let labels: Vec<usize> = self.rows[0]
            .iter()
            .map(|row| values[*row] as usize)
            .collect();
        Some(class_weights(classes, &labels))
    }

    /// The metric that a key names (`None` for the validation loss) and which way is better.
    fn criterion<'a>(
        &self,
        metric: &'a Option<String>,
        mode: Option<Mode>,
        key: &str,
    ) -> Result<(Option<&'a str>, Mode)> {
        // The release calls the validation loss by the data set's name.
        let data_set = &self.config().dataset_name;
        let is_loss = |name: &str| name == "loss" || name.eq_ignore_ascii_case(data_set);
        let Some(name) = metric.as_deref().filter(|name| !is_loss(name)) else {
            return Ok((None, mode.unwrap_or(Mode::Min)));
        };
        let known = self.benchmark.evaluate(&[], &[]);
        if known.get(name).is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| name).collect();
            let message = format!("{name} is not known; there are loss, {}", names.join(", "));
            return Err(Error::config(key, message));
        }
        Ok((Some(name), mode.unwrap_or_else(|| Metrics::mode(name))))
    }
}
