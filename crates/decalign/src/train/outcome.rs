//! The result of training one model.

use crate::Predictions;
use crate::metrics::Metrics;

use super::{EpochReport, PhaseTimes};

/// The result of training under a configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelOutcome<M> {
    /// The model of the best epoch: the [`Checkpoint`](crate::Checkpoint) of DecAlign, or the
    /// [`Method`](crate::baseline::Method) of a baseline.
    pub model: M,
    /// The best epoch, counted from 1.
    pub best_epoch: usize,
    /// Reports of all epochs.
    pub epochs: Vec<EpochReport>,
    /// Metrics of the best epoch on the validation part.
    pub valid: Metrics,
    /// Metrics of the best epoch on the test part.
    pub test: Metrics,
    /// Predictions of the validation part, in the order of the trainer's rows.
    pub valid_predictions: Predictions,
    /// Predictions of the test part.
    pub test_predictions: Predictions,
    /// Number of parameters.
    pub parameters: usize,
    /// Wall time by phase.
    pub phases: PhaseTimes,
    /// Wall time of the run in seconds, without the test.
    pub seconds: f64,
}
