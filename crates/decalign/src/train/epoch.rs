//! One pass over the training part.

use candle_core::{DType, Device};
use decalign_core::nn::Mode;
use decalign_core::random::Stream;
use decalign_data::{BatchSampler, Dataset};

use super::Observer;
use crate::config::Config;
use crate::model::DecAlign;
use crate::objective::{Losses, Objective};
use crate::optim::Adam;
use crate::{Error, ErrorKind, Result};

/// Keeps dropout's numbers apart from those of the shuffle and of initialisation.
const DROPOUT: u64 = 0x4452_4f50;

/// What an epoch works on.
pub(super) struct Epoch<'a> {
    pub(super) model: &'a DecAlign,
    pub(super) objective: &'a Objective,
    pub(super) data: &'a Dataset,
    pub(super) sampler: &'a BatchSampler,
    pub(super) config: &'a Config,
    pub(super) device: &'a Device,
}

/// What an epoch gives: means over samples of the losses, over steps of the gradient's norm.
pub(super) struct Trained {
    pub(super) losses: [f64; 6],
    pub(super) gradient_norm: f64,
}

impl Epoch<'_> {
    /// Runs epoch number `epoch`, counted from 1, with the learning rates times `scale`.
    pub(super) fn run(
        &self,
        epoch: usize,
        scale: f64,
        adam: &mut Adam,
        observer: &mut dyn Observer,
    ) -> Result<Trained> {
        let dropout = Stream::new(self.config.seed, DROPOUT).child(epoch as u64);
        let batches = self.sampler.epoch(epoch as u64);
        let mut trained = Trained {
            losses: [0.0; 6],
            gradient_norm: 0.0,
        };
        let samples: usize = batches.iter().map(Vec::len).sum();
        for (i, rows) in batches.iter().enumerate() {
            let mode = Mode::Training(dropout.child(i as u64));
            let (losses, norm) = self.step((epoch, i + 1), rows, scale, mode, adam)?;
            for (sum, loss) in trained.losses.iter_mut().zip(losses) {
                *sum += loss * rows.len() as f64 / samples as f64;
            }
            trained.gradient_norm += norm / batches.len() as f64;
            observer.step(epoch, i + 1, batches.len());
        }
        Ok(trained)
    }

    /// One step; a loss or gradient that is not finite changes nothing and is an error.
    fn step(
        &self,
        (epoch, step): (usize, usize),
        rows: &[usize],
        scale: f64,
        mode: Mode,
        adam: &mut Adam,
    ) -> Result<([f64; 6], f64)> {
        let dtype: DType = self.model.parameters().dtype();
        let batch = self.data.batch(rows, dtype, self.device)?;
        let labels = batch
            .labels
            .as_ref()
            .ok_or_else(|| Error::invalid("training needs labels"))?;
        let lost = |what: String| Error::diverged(what, epoch, step);
        // The data was checked: what a numerical operation does not take, training has made.
        let explain = |error: Error| match error.kind() {
            ErrorKind::Numerical => lost(error.to_string()),
            _ => error,
        };
        let output = self
            .model
            .forward(&batch.sequences, true, mode)
            .map_err(explain)?;
        let losses = self.objective.losses(&output, labels).map_err(explain)?;
        let values = losses.values()?;
        let names = Losses::NAMES.iter().map(|name| format!("the {name} loss"));
        let names = names.chain(["the total loss".to_owned()]);
        if let Some((value, name)) = values.iter().zip(names).find(|(v, _)| !v.is_finite()) {
            return Err(lost(format!("{name} is {value}")));
        }
        let config = self.config;
        let rate = |name: &str| match name.starts_with("text_model.") {
            true => scale * config.bert_learning_rate.unwrap_or(config.learning_rate),
            false => scale * config.learning_rate,
        };
        let norm = adam.step(&losses.total.backward()?, rate)?;
        match norm.is_finite() {
            true => Ok((values, norm)),
            false => Err(lost(format!("the norm of the gradients is {norm}"))),
        }
    }
}
