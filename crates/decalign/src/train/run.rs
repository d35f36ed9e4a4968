//! A run: from its state, epoch by epoch, to its end.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{Tensor, Var};
use decalign_core::device::Backend;
use decalign_core::nn::Mode;
use decalign_core::op::Graph;
use decalign_core::random::Stream;
use decalign_data::BatchSampler;

use super::fit::dtype;
use super::state::{Progress, State};
use super::{
    Criterion, EpochReport, Fit, Fitted, Flow, Keep, Model, Observer, Start, StepReport, Terms,
};
use crate::objective::scalars;
use crate::optim::{Adam, AdamSettings, EarlyStopping, ReduceOnPlateau};
use crate::{Error, ErrorKind, Result};

/// Keeps dropout's numbers apart from those of the shuffle and of initialisation.
const DROPOUT: u64 = 0x4452_4f50;

/// A run under way.
pub(super) struct Run<'a, M, C> {
    fit: &'a Fit,
    model: &'a M,
    criterion: &'a C,
    keep: &'a Keep,
    variables: Vec<(String, Var)>,
    sampler: BatchSampler,
    adam: Adam,
    progress: Progress,
    best: Option<BTreeMap<String, Tensor>>,
    saved: Instant,
}

impl<'a, M: Model, C: Criterion<M>> Run<'a, M, C> {
    /// A run at its first step, or where its state says.
    pub(super) fn begin(
        fit: &'a Fit,
        model: &'a M,
        criterion: &'a C,
        keep: &'a Keep,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let settings = &fit.settings;
        let variables = model.variables();
        let identity = fit.identity(&variables, keep.extra())?;
        let stopping = EarlyStopping::new(settings.selection.goal(), settings.patience);
        let goal = settings.scheduler.goal();
        let schedule = ReduceOnPlateau::new(goal, settings.factor, settings.scheduler_patience);
        let loaded = keep.load(&identity)?;
        let mut run = Self {
            fit,
            model,
            criterion,
            keep,
            adam: Adam::new(
                variables.clone(),
                AdamSettings::new(settings.weight_decay, settings.clip),
            ),
            variables,
            sampler: BatchSampler::new(fit.rows[0].clone(), settings.batch_size, settings.seed)?,
            progress: Progress::new(identity, schedule, stopping),
            best: None,
            saved: Instant::now(),
        };
        let mut damaged = None;
        if let Some((state, told)) = loaded {
            damaged = told;
            run.restore(state)?;
        }
        let progress = &run.progress;
        observer.begin(&Start {
            epochs: &progress.epochs,
            epoch: progress.epoch,
            step: progress.step,
            damaged,
        })?;
        if let (Some(weights), Some((epoch, _))) = (&run.best, progress.stopping.best()) {
            observer.best(epoch, weights)?;
        }
        Ok(run)
    }

    fn restore(&mut self, state: State) -> Result<()> {
        set(&self.variables, &state.part("weight"))?;
        self.adam.restore(&state.part("adam"))?;
        let best = state.part("best");
        self.best = (!best.is_empty()).then_some(best);
        self.progress = state.progress;
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        if !self.keep.keeps() {
            return Ok(());
        }
        let begun = Instant::now();
        let named = |prefix: &str, tensors: BTreeMap<String, Tensor>| {
            let prefix = prefix.to_owned();
            tensors
                .into_iter()
                .map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
        };
        let weights = self
            .variables
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        let state = State {
            tensors: named("weight", weights.collect())
                .chain(named("adam", self.adam.state()?))
                .chain(named("best", self.best.clone().unwrap_or_default()))
                .collect(),
            progress: self.progress.clone(),
        };
        self.keep.save(&state)?;
        self.progress.phases.saving += begun.elapsed().as_secs_f64();
        self.saved = Instant::now();
        Ok(())
    }

    /// Runs an epoch, or what is left of it. False when there is none left.
    pub(super) fn epoch(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        if self.progress.ended {
            return Ok(false);
        }
        let finish = self.steps(observer)?;
        let begun = Instant::now();
        let task = |prediction: &Tensor, labels: &Tensor| self.criterion.task(prediction, labels);
        let (loss, judged) = self.fit.judge(self.model, &self.fit.rows[1], Some(&task))?;
        let seconds = begun.elapsed().as_secs_f64();
        self.progress.phases.validation += seconds;
        self.progress.epoch_seconds += seconds;
        if !loss.is_finite() {
            let what = format!("the validation loss is {loss}");
            return Err(Error::diverged(
                what,
                self.progress.epoch,
                self.sampler.len(),
            ));
        }
        let begun = Instant::now();
        let flow = self.close(loss, judged.metrics, observer)?;
        self.progress.phases.saving += begun.elapsed().as_secs_f64();
        let p = &mut self.progress;
        p.ended = finish
            || flow == Flow::Finish
            || p.stopping.exhausted(p.epoch)
            || p.epoch >= self.fit.settings.epochs;
        p.epoch += 1;
        p.step = 0;
        let last = self.progress.ended || flow == Flow::Pause;
        if last || self.keep.is_due_after_epoch(self.saved.elapsed()) {
            self.save()?;
        }
        match flow {
            Flow::Pause => Err(Error::interrupted(
                self.progress.epoch - 1,
                self.sampler.len(),
            )),
            _ => Ok(!self.progress.ended),
        }
    }

    /// The epoch's place in the history, and whether it is the best.
    fn close(
        &mut self,
        loss: f64,
        metrics: crate::metrics::Metrics,
        observer: &mut dyn Observer,
    ) -> Result<Flow> {
        let settings = &self.fit.settings;
        let epoch = self.progress.epoch;
        let best = (self.progress.stopping).observe(epoch, settings.selection.of(loss, &metrics));
        if best {
            let weights = copies(&self.variables)?;
            observer.best(epoch, &weights)?;
            self.best = Some(weights);
        }
        let p = &mut self.progress;
        let report = EpochReport {
            epoch,
            learning_rate: p.schedule.scale() * settings.learning_rate,
            losses: p.names.iter().cloned().zip(p.losses.drain(..)).collect(),
            gradient_norm: p.gradient_norm,
            valid_loss: loss,
            valid: metrics,
            best,
            seconds: p.epoch_seconds,
        };
        let flow = observer.epoch(&report)?;
        p.schedule
            .observe(settings.scheduler.of(loss, &report.valid));
        p.epochs.push(report);
        (p.gradient_norm, p.epoch_seconds) = (0.0, 0.0);
        Ok(flow)
    }

    /// Runs the steps of an epoch that are left. True when the run is to end with this epoch.
    fn steps(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let epoch = self.progress.epoch;
        let dropout = Stream::new(self.fit.settings.seed, DROPOUT).child(epoch as u64);
        let batches = self.sampler.epoch(epoch as u64);
        let samples: usize = batches.iter().map(Vec::len).sum();
        let mut finish = false;
        for (i, rows) in batches.iter().enumerate().skip(self.progress.step) {
            let begun = Instant::now();
            let mode = Mode::Training(dropout.child(i as u64));
            let (losses, norm) = self.step((epoch, i + 1), rows, mode)?;
            let p = &mut self.progress;
            if p.losses.is_empty() {
                p.names = losses.iter().map(|(name, _)| name.clone()).collect();
                p.losses = vec![0.0; losses.len()];
            }
            for (sum, (_, loss)) in p.losses.iter_mut().zip(&losses) {
                *sum += loss * rows.len() as f64 / samples as f64;
            }
            p.gradient_norm += norm / batches.len() as f64;
            p.step = i + 1;
            let seconds = begun.elapsed().as_secs_f64();
            p.phases.training += seconds;
            p.epoch_seconds += seconds;
            let flow = observer.step(&StepReport {
                epoch,
                step: i + 1,
                steps: batches.len(),
                losses: &losses,
                gradient_norm: norm,
            })?;
            match flow {
                Flow::Pause => {
                    self.save()?;
                    return Err(Error::interrupted(epoch, i + 1));
                }
                Flow::Finish => finish = true,
                Flow::Continue
                    if i + 1 < batches.len() && self.keep.is_due(self.saved.elapsed()) =>
                {
                    self.save()?;
                }
                Flow::Continue => {}
            }
        }
        Ok(finish)
    }

    /// One step; a loss or gradient that is not finite changes nothing and is an error.
    fn step(
        &mut self,
        (epoch, step): (usize, usize),
        rows: &[usize],
        mode: Mode,
    ) -> Result<(Vec<(String, f64)>, f64)> {
        let fit = self.fit;
        let batch = fit.data.batch(rows, dtype(&self.variables), &fit.device)?;
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
        let graph = Graph::on(&fit.device);
        let forward = || -> Result<Terms> {
            let output = self.model.forward(&batch.sequences, mode)?;
            self.criterion.losses(&output, labels)
        };
        let terms = graph.run(forward).map_err(explain)?;
        let scale = self.progress.schedule.scale();
        let rate = |name: &str| scale * fit.settings.rate(name);
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
        // The host looks before the step; a device goes on, and losses and norm come by one copy.
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

    /// The best model and its figures.
    pub(super) fn conclude(mut self) -> Result<Fitted> {
        let begun = Instant::now();
        let best = (self.best.take()).zip(self.progress.stopping.best());
        let Some((weights, (best_epoch, _))) = best else {
            return Err(Error::invalid(
                "the validation metric was never a number: no model to keep",
            ));
        };
        set(&self.variables, &weights)?;
        let (_, valid) = self.fit.judge(self.model, &self.fit.rows[1], None)?;
        let (_, test) = self.fit.judge(self.model, &self.fit.rows[2], None)?;
        let mut phases = self.progress.phases;
        phases.test = begun.elapsed().as_secs_f64();
        Ok(Fitted {
            best_epoch,
            weights,
            epochs: self.progress.epochs,
            valid,
            test,
            phases,
        })
    }
}

/// Copies of the values: the optimiser changes them in place.
fn copies(variables: &[(String, Var)]) -> Result<BTreeMap<String, Tensor>> {
    let copy = |(name, var): &(String, Var)| Ok((name.clone(), var.as_tensor().copy()?));
    variables.iter().map(copy).collect()
}

/// Gives every variable the value of its name.
fn set(variables: &[(String, Var)], values: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, variable) in variables {
        let value = values
            .get(name)
            .filter(|value| value.shape() == variable.shape() && value.dtype() == variable.dtype())
            .ok_or_else(|| {
                Error::invalid(format!(
                    "weight {name}: not in the state as the model has it"
                ))
            })?;
        variable.set(&value.to_device(variable.device())?)?;
    }
    Ok(())
}
