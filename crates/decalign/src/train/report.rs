//! Reports of a training run to its observer.

use serde::{Deserialize, Serialize};

use crate::metrics::Metrics;

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Learning rate of the parameters that have no separate one.
    pub learning_rate: f64,
    /// Mean over the training samples of each unweighted component, then of the `total`.
    #[serde(with = "by_name")]
    pub losses: Vec<(String, f64)>,
    /// Mean over the steps of the gradient norm before clipping.
    pub gradient_norm: f64,
    /// Average task loss of the validation part, see [`LossAverage`](super::LossAverage).
    pub valid_loss: f64,
    /// Metrics of the validation part.
    pub valid: Metrics,
    /// True if this epoch is the best so far.
    pub best: bool,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
}

impl EpochReport {
    /// Mean over the training samples of the minimised loss.
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
#[non_exhaustive]
pub struct StepReport<'a> {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The step in its epoch, counted from 1.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// The losses of the batch by name, the `total` last.
    pub losses: &'a [(String, f64)],
    /// Gradient norm before clipping.
    pub gradient_norm: f64,
}

/// The start of a run: the first step, or the step after an interruption.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StartReport<'a> {
    /// The epochs already done.
    pub epochs: &'a [EpochReport],
    /// The epoch to continue with, counted from 1.
    pub epoch: usize,
    /// Steps of that epoch already done.
    pub step: usize,
    /// The damage of the newest state, if the run resumes from an older one.
    pub damaged: Option<String>,
}

/// Wall time by phase, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhaseTimes {
    /// Training steps.
    pub training: f64,
    /// Evaluation of the validation part after every epoch.
    pub validation: f64,
    /// Writing of states and best models, and the time inside observers.
    pub saving: f64,
    /// Evaluation of the best model at the end.
    pub test: f64,
}

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
