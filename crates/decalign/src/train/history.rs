//! What training tells as it goes, and what it may be told.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::metrics::Metrics;

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counts from 1.
    pub epoch: usize,
    /// Of the parameters without a rate of their own.
    pub learning_rate: f64,
    /// Mean over training samples of each component before its weight, then of the `total`.
    #[serde(with = "by_name")]
    pub losses: Vec<(String, f64)>,
    /// Mean over steps of the norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Mean over validation batches of the task loss.
    pub valid_loss: f64,
    /// Metrics of the validation part.
    pub valid: Metrics,
    /// Whether this epoch is the best so far.
    pub best: bool,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
}

impl EpochReport {
    /// Mean over training samples of what is minimised.
    pub fn total(&self) -> f64 {
        self.losses.last().map_or(f64::NAN, |(_, value)| *value)
    }

    /// Column names of [`EpochReport::row`].
    pub fn header(&self) -> Vec<String> {
        let losses = self.losses.iter().map(|(name, _)| format!("train_{name}"));
        let metrics = self.valid.iter().map(|(name, _)| format!("valid_{name}"));
        ["epoch", "learning_rate"]
            .map(str::to_owned)
            .into_iter()
            .chain(losses)
            .chain(["gradient_norm".to_owned(), "valid_loss".to_owned()])
            .chain(metrics)
            .chain(["best".to_owned(), "seconds".to_owned()])
            .collect()
    }

    /// The epoch as one row of a table; numbers read back exactly.
    pub fn row(&self) -> Vec<String> {
        let numbers = [self.learning_rate]
            .into_iter()
            .chain(self.losses.iter().map(|(_, value)| *value))
            .chain([self.gradient_norm, self.valid_loss])
            .chain(self.valid.iter().map(|(_, value)| value));
        std::iter::once(self.epoch.to_string())
            .chain(numbers.map(|v| v.to_string()))
            .chain([
                u8::from(self.best).to_string(),
                format!("{:.3}", self.seconds),
            ])
            .collect()
    }
}

/// One finished step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport<'a> {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The step in its epoch, counted from 1.
    pub step: usize,
    /// Steps an epoch.
    pub steps: usize,
    /// The losses of the batch by name, the `total` last.
    pub losses: &'a [(String, f64)],
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
}

/// Where a run begins: at the first step, or where it was interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Start<'a> {
    /// The epochs that are done already.
    pub epochs: &'a [EpochReport],
    /// The epoch to go on with, counted from 1.
    pub epoch: usize,
    /// Steps of it that are done already.
    pub step: usize,
    /// What was wrong with the newest state, where an older one had to serve.
    pub damaged: Option<String>,
}

/// What a run does after a step or an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    #[default]
    Continue,
    /// It saves its state, where it keeps one, and ends with an error of kind `Interrupted`.
    Pause,
    /// It ends after this epoch as if it were the last.
    Finish,
}

/// Follows a training run; every method may be left as it is. An error ends the run.
pub trait Observer {
    /// The run begins, or goes on after an interruption.
    ///
    /// # Errors
    /// What is returned ends the run.
    fn begin(&mut self, start: &Start<'_>) -> Result<()> {
        let _ = start;
        Ok(())
    }

    /// A step is done.
    ///
    /// # Errors
    /// What is returned ends the run.
    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow> {
        let _ = report;
        Ok(Flow::Continue)
    }

    /// The epoch that ends here is the best so far; these are copies of its weights.
    ///
    /// Called again for the best epoch so far when a run is resumed.
    ///
    /// # Errors
    /// What is returned ends the run.
    fn best(&mut self, epoch: usize, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        let _ = (epoch, weights);
        Ok(())
    }

    /// An epoch is done.
    ///
    /// # Errors
    /// What is returned ends the run.
    fn epoch(&mut self, report: &EpochReport) -> Result<Flow> {
        let _ = report;
        Ok(Flow::Continue)
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Named numbers as a JSON object, in their order.
mod by_name {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;
    use serde_json::{Map, Value};

    pub(super) fn serialize<S: Serializer>(
        values: &[(String, f64)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, f64)>, D::Error> {
        let pair = |(name, value): (String, Value)| match value.as_f64() {
            Some(number) => Ok((name, number)),
            None => Err(Error::custom(format!("{name}: {value} is not a number"))),
        };
        let map = Map::deserialize(deserializer)?;
        map.into_iter().map(pair).collect()
    }
}
