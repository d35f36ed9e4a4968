//! What training tells as it goes.

use crate::Result;
use crate::metrics::Metrics;
use crate::objective::Losses;

/// One finished epoch.
#[derive(Clone, Debug)]
pub struct EpochReport {
    /// Counts from 1.
    pub epoch: usize,
    /// Of the parameters without a rate of their own.
    pub learning_rate: f64,
    /// Mean over training samples of each component in the order of [`Losses::NAMES`], then of the
    /// total.
    pub training: [f64; 6],
    /// Mean over steps of the norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Mean over validation batches of the task loss.
    pub validation_loss: f64,
    /// Metrics of the validation part.
    pub validation: Metrics,
    /// Whether this epoch is the best so far.
    pub best: bool,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
}

impl EpochReport {
    /// Column names of [`EpochReport::row`], given the names of the metrics.
    pub fn header(&self) -> Vec<String> {
        let losses = Losses::NAMES
            .iter()
            .chain(["total"].iter())
            .map(|n| format!("train_{n}"));
        let metrics = self
            .validation
            .iter()
            .map(|(name, _)| format!("valid_{name}"));
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
            .chain(self.training)
            .chain([self.gradient_norm, self.validation_loss])
            .chain(self.validation.iter().map(|(_, value)| value));
        std::iter::once(self.epoch.to_string())
            .chain(numbers.map(|v| v.to_string()))
            .chain([
                u8::from(self.best).to_string(),
                format!("{:.3}", self.seconds),
            ])
            .collect()
    }
}

/// Follows a training run; every method may be left as it is.
pub trait Observer {
    /// Step `step` of `steps` of an epoch is done (all count from 1).
    fn step(&mut self, epoch: usize, step: usize, steps: usize) {
        let _ = (epoch, step, steps);
    }
    /// An epoch is done.
    ///
    /// # Errors
    /// What the observer returns ends the run.
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let _ = report;
        Ok(())
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
