//! Callbacks of a training run.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{EpochReport, StartReport, StepReport};
use crate::Result;

/// How a run continues after a step or an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Continue training.
    #[default]
    Continue,
    /// Save the state, if the run keeps one, and end with an error of kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted).
    Pause,
    /// End after this epoch as if it were the last.
    Finish,
}

/// Follows a training run. Every method has a default that does nothing; an error ends the run.
pub trait Observer {
    /// The run starts, or resumes after an interruption.
    ///
    /// # Errors
    /// A returned error ends the run.
    fn begin(&mut self, start: &StartReport<'_>) -> Result<()> {
        let _ = start;
        Ok(())
    }

    /// A step is done.
    ///
    /// # Errors
    /// A returned error ends the run.
    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow> {
        let _ = report;
        Ok(Flow::Continue)
    }

    /// Epoch `epoch` is the best so far; `weights` are copies of the variables.
    ///
    /// A resumed run calls it again for its best epoch so far.
    ///
    /// # Errors
    /// A returned error ends the run.
    fn best(&mut self, epoch: usize, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        let _ = (epoch, weights);
        Ok(())
    }

    /// An epoch is done, validation included.
    ///
    /// # Errors
    /// A returned error ends the run.
    fn epoch(&mut self, report: &EpochReport) -> Result<Flow> {
        let _ = report;
        Ok(Flow::Continue)
    }
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
