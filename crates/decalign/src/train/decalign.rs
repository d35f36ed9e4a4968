//! The trainer of DecAlign under a configuration.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::Mode;
use decalign_data::{Dataset, Sequence};

use super::{
    Criterion, EpochReport, Flow, LossTerms, Model, ModelOutcome, Observer, Prepared, ResumePolicy,
    StartReport, StepReport, TrainSettings,
};
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, check_batches};
use crate::metrics::Benchmark;
use crate::model::{DecAlign, ModelOutput};
use crate::objective::Objective;

/// Trains DecAlign as a configuration says.
///
/// ```
/// use candle_core::Device;
/// use decalign::config::Config;
/// use decalign::train::{DecAlignTrainer, Silent};
/// use decalign_data::Dataset;
///
/// let mut config = Config::preset("mfeat")?;
/// for set in ["modalities=fou,mor", "nlevels=1", "num_epochs=1"] {
///     config.set(set)?;
/// }
/// let trainer = DecAlignTrainer::new(&config, &Dataset::mfeat()?, &Device::Cpu)?;
/// let outcome = trainer.run(None, &mut Silent)?;
/// println!("{:?}", outcome.test.get("Acc"));
/// # Ok::<(), decalign::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DecAlignTrainer {
    prepared: Prepared,
}

impl DecAlignTrainer {
    /// Checks a configuration against data and prepares both: selects modalities and fits the standardisation to the
    /// training part.
    ///
    /// # Errors
    /// When they do not fit one another; the message names the key or the field.
    pub fn new(config: &Config, data: &Dataset, device: &Device) -> Result<Self> {
        let prepared = Prepared::new(config, data, device, |config| TrainSettings::from(config))?;
        check_batches(&prepared.resolved.model, prepared.trainer.rows[0].len())?;
        Ok(Self { prepared })
    }

    /// This trainer with another seed; the prepared data is shared, not copied.
    pub fn with_seed(self, seed: u64) -> Self {
        let prepared = self.prepared.with_seed(seed);
        Self { prepared }
    }

    /// The configuration with every open key filled in.
    pub fn config(&self) -> &Config {
        &self.prepared.resolved.config
    }

    /// The samples of the training, validation and test part.
    pub fn rows(&self) -> &[Vec<usize>; 3] {
        self.prepared.trainer.rows()
    }

    /// The benchmark that gives the metrics.
    pub fn benchmark(&self) -> Benchmark {
        self.prepared.trainer.benchmark()
    }

    /// Trains until the last epoch or until the validation metric has stopped improving.
    ///
    /// With a `file`, every best model so far is written there, completely or not at all.
    ///
    /// # Errors
    /// When a loss or gradient is not finite (the file then holds the last good model), or the
    /// file cannot be written.
    pub fn run(
        &self,
        file: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<ModelOutcome<Checkpoint>> {
        self.run_resumable(file, &ResumePolicy::none(), observer)
    }

    /// [`DecAlignTrainer::run`] that saves its state and resumes from one.
    ///
    /// # Errors
    /// As [`DecAlignTrainer::run`] and [`Trainer::run`](super::Trainer::run).
    pub fn run_resumable(
        &self,
        file: Option<&Path>,
        resume: &ResumePolicy,
        observer: &mut dyn Observer,
    ) -> Result<ModelOutcome<Checkpoint>> {
        let Prepared {
            resolved, trainer, ..
        } = &self.prepared;
        let config = &resolved.config;
        let model = DecAlign::new(&resolved.model, config.seed, DType::F32, &trainer.device)?;
        model.load_pretrained()?;
        let mut saver = CheckpointWriter {
            trainer: self,
            file,
            observer,
        };
        let outcome = trainer.run(&model, &self.prepared.objective(), resume, &mut saver)?;
        let checkpoint = |weights| self.checkpoint(weights);
        Ok(self.prepared.outcome(outcome, checkpoint))
    }

    fn checkpoint(&self, weights: BTreeMap<String, Tensor>) -> Checkpoint {
        Checkpoint {
            config: self.config().clone(),
            standardizer: self.prepared.standardizer.clone(),
            classes: self.prepared.classes(),
            weights,
        }
    }
}

impl Model for DecAlign {
    type Output = ModelOutput;

    fn variables(&self) -> Vec<(String, Var)> {
        self.parameters().named()
    }

    /// Computes the alignment losses in training only.
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<ModelOutput> {
        let align = matches!(mode, Mode::Training(_));
        DecAlign::forward(self, sequences, align, mode)
    }

    fn prediction(&self, output: &ModelOutput) -> Result<Tensor> {
        Ok(output.prediction.clone())
    }
}

impl<M: Model<Output = ModelOutput>> Criterion<M> for Objective {
    fn losses(&self, output: &ModelOutput, labels: &Tensor) -> Result<LossTerms> {
        Objective::losses(self, output, labels)
    }

    fn task_loss(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Objective::task_loss(self, prediction, labels)
    }
}

/// Writes every best model so far and forwards all reports.
struct CheckpointWriter<'a> {
    trainer: &'a DecAlignTrainer,
    file: Option<&'a Path>,
    observer: &'a mut dyn Observer,
}

impl Observer for CheckpointWriter<'_> {
    fn begin(&mut self, start: &StartReport<'_>) -> Result<()> {
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
