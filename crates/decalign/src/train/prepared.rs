//! A data set prepared as a configuration says, with trainer and objective.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use decalign_data::{Dataset, Labels, Standardizer};

use super::{Evaluation, ModelOutcome, TrainSettings, Trainer, TrainingOutcome};
use crate::config::{ClassWeight, Config, Resolved, Task};
use crate::objective::{Objective, class_weights};
use crate::{Error, Predictions, Result, preprocess};

/// The selected and standardised data of a configuration and a trainer on it: what DecAlign and the baselines share.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) resolved: Resolved,
    pub(crate) trainer: Trainer,
    pub(crate) standardizer: Option<Standardizer>,
}

impl Prepared {
    /// Selects modalities, fits the configuration to the data, and the standardisation to the training part.
    pub(crate) fn new(
        config: &Config,
        data: &Dataset,
        device: &Device,
        settings: impl FnOnce(&Config) -> TrainSettings,
    ) -> Result<Self> {
        let data = preprocess::select(data, config)?;
        if data.labels().is_none() {
            return Err(Error::invalid(format!(
                "{}: labels: missing, training needs them",
                data.origin()
            )));
        }
        let resolved = config.resolve(&data)?;
        let settings = settings(&resolved.config);
        let split = config.split.as_deref();
        let mut trainer = Trainer::new(settings, &data, split, resolved.benchmark(), device)?;
        let standardizer = preprocess::standardizer(&data, &trainer.rows[0], config)?;
        trainer.data = preprocess::standardize(&data, standardizer.as_ref())?.into_owned();
        Ok(Self {
            resolved,
            trainer,
            standardizer,
        })
    }

    /// Another seed on shared data.
    pub(crate) fn with_seed(mut self, seed: u64) -> Self {
        self.resolved.config.seed = seed;
        self.trainer.settings.seed = seed;
        self
    }

    /// The device to train on.
    pub(crate) fn device(&self) -> &Device {
        &self.trainer.device
    }

    /// The objective, with class weights of the training part where the configuration balances classes.
    pub(crate) fn objective(&self) -> Objective {
        Objective::new(&self.resolved.objective, self.class_weights())
    }

    /// The names of the classes; none for scores.
    pub(crate) fn classes(&self) -> Vec<String> {
        let labels = self.trainer.data.labels();
        labels.map(|l| l.names().to_vec()).unwrap_or_default()
    }

    /// The predictions of an evaluation.
    fn predictions(&self, evaluation: &Evaluation) -> Predictions {
        let outputs = self.resolved.model.outputs;
        Predictions::new(evaluation.predictions.clone(), self.classes(), outputs)
    }

    /// The outcome of a run; `model` makes what it holds of the best weights.
    pub(crate) fn outcome<M>(
        &self,
        outcome: TrainingOutcome,
        model: impl FnOnce(BTreeMap<String, Tensor>) -> M,
    ) -> ModelOutcome<M> {
        ModelOutcome {
            best_epoch: outcome.best_epoch,
            seconds: outcome.seconds(),
            phases: outcome.phases,
            parameters: outcome.weights.values().map(|w| w.elem_count()).sum(),
            valid_predictions: self.predictions(&outcome.valid),
            test_predictions: self.predictions(&outcome.test),
            valid: outcome.valid.metrics,
            test: outcome.test.metrics,
            epochs: outcome.epochs,
            model: model(outcome.weights),
        }
    }

    fn class_weights(&self) -> Option<Vec<f64>> {
        let Task::Classification {
            classes,
            class_weight: ClassWeight::Balanced,
        } = self.resolved.objective.task
        else {
            return None;
        };
        let Some(Labels::Classes { values, .. }) = self.trainer.data.labels() else {
            return None;
        };
        let labels = self.trainer.rows[0].iter().map(|row| values[*row] as usize);
        Some(class_weights(classes, &labels.collect::<Vec<_>>()))
    }
}
