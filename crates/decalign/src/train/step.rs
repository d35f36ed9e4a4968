//! One optimiser step of a run.

use candle_core::{Tensor, Var};
use decalign_core::device::Backend;
use decalign_core::nn::Mode;
use decalign_core::op::Graph;

use super::trainer::dtype;
use super::{Criterion, LossTerms, Model, Trainer};
use crate::optim::{Adam, AdamSettings};
use crate::{Error, ErrorKind, Result};
use decalign_core::tensor_convert::scalars;

/// Model, criterion and optimiser of a run.
pub(super) struct Stepper<'a, M, C> {
    trainer: &'a Trainer,
    pub(super) model: &'a M,
    pub(super) criterion: &'a C,
    pub(super) variables: Vec<(String, Var)>,
    pub(super) adam: Adam,
}

impl<'a, M: Model, C: Criterion<M>> Stepper<'a, M, C> {
    pub(super) fn new(
        trainer: &'a Trainer,
        model: &'a M,
        criterion: &'a C,
        variables: Vec<(String, Var)>,
    ) -> Self {
        let settings = &trainer.settings;
        let adam = AdamSettings::new(settings.weight_decay, settings.clip);
        Self {
            trainer,
            model,
            criterion,
            adam: Adam::new(variables.clone(), adam),
            variables,
        }
    }

    /// One optimiser step: the losses by name with the total, and the gradient norm.
    ///
    /// `scale` multiplies the learning rates. On the host a loss that is not finite leaves the weights unchanged.
    pub(super) fn step(
        &mut self,
        (epoch, step): (usize, usize),
        rows: &[usize],
        mode: Mode,
        scale: f64,
    ) -> Result<(Vec<(String, f64)>, f64)> {
        let trainer = self.trainer;
        let batch = trainer
            .data
            .batch(rows, dtype(&self.variables), &trainer.device)?;
        let labels = batch
            .labels
            .as_ref()
            .ok_or_else(|| Error::invalid("training needs labels"))?;
        let lost = |what: String| Error::diverged(what, epoch, step);
        // The data was checked, so an invalid argument of a numerical operation comes from training.
        let explain = |error: Error| match error.kind() {
            ErrorKind::Numerical => lost(error.to_string()),
            _ => error,
        };
        let graph = Graph::on(&trainer.device);
        let forward = || -> Result<LossTerms> {
            let output = self.model.forward(&batch.sequences, mode)?;
            self.criterion.losses(&output, labels)
        };
        let terms = graph.run(forward).map_err(explain)?;
        let rate = |name: &str| scale * trainer.settings.rate(name);
        let names = terms.components.iter().map(|(name, _)| name.clone());
        let names: Vec<String> = names.chain(["total".to_owned()]).collect();
        let components = terms.components.iter().map(|(_, loss)| loss);
        let mut all: Vec<&Tensor> = components.chain([&terms.total]).collect();
        let finite = |losses: &[f64]| {
            let mut named = names.iter().zip(losses);
            match named.find(|(_, value)| !value.is_finite()) {
                Some((name, value)) => Err(lost(format!("the {name} loss is {value}"))),
                None => Ok(()),
            }
        };
        // The host checks the losses before the step. A device is not waited for: losses and norm are read by one copy.
        let (losses, norm) = if Backend::of(&terms.total)?.is_none() {
            let losses = scalars(&all)?;
            finite(&losses)?;
            let norm = self.adam.step(&graph.backward(&terms.total)?, rate)?;
            (losses, norm.value()?)
        } else {
            let norm = self.adam.step(&graph.backward(&terms.total)?, rate)?;
            all.extend(norm.tensor());
            let mut losses = scalars(&all)?;
            let read = losses.split_off(names.len()).pop();
            finite(&losses)?;
            (losses, read.map_or_else(|| norm.value(), Ok)?)
        };
        match norm.is_finite() {
            true => Ok((names.into_iter().zip(losses).collect(), norm)),
            false => Err(lost(format!("the norm of the gradients is {norm}"))),
        }
    }
}
