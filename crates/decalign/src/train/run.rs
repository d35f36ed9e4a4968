//! A training run: start or resume, epochs, the outcome.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{Tensor, Var};
use decalign_core::nn::Mode;
use decalign_core::random::Stream;
use decalign_data::BatchSampler;

use super::state::{Progress, State};
use super::step::Stepper;
use super::{
    Criterion, EpochReport, Flow, Model, Observer, ResumePolicy, StartReport, StepReport, Trainer,
    TrainingOutcome,
};
use crate::metrics::Metrics;
use crate::optim::{EarlyStopping, ReduceOnPlateau};
use crate::{Error, Result};

impl Trainer {
    /// Trains until the last epoch, until the monitored validation metric has stopped improving, or until the
    /// observer ends the run. A state found by `resume` is continued.
    ///
    /// # Errors
    /// When a loss or gradient is not finite; when a state cannot be written or belongs to another run; with kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted) when the observer pauses the run; any error of the model, the
    /// criterion or the observer.
    pub fn run<M: Model, C: Criterion<M>>(
        &self,
        model: &M,
        criterion: &C,
        resume: &ResumePolicy,
        observer: &mut dyn Observer,
    ) -> Result<TrainingOutcome> {
        let mut run = Run::begin(self, model, criterion, resume, observer)?;
        while run.epoch(observer)? {}
        run.conclude()
    }
}

/// A run in progress.
struct Run<'a, M, C> {
    trainer: &'a Trainer,
    resume: &'a ResumePolicy,
    stepper: Stepper<'a, M, C>,
    sampler: BatchSampler,
    progress: Progress,
    best: Option<BTreeMap<String, Tensor>>,
    saved: Instant,
}

impl<'a, M: Model, C: Criterion<M>> Run<'a, M, C> {
    /// A run at its first step, or at the step of the saved state.
    fn begin(
        trainer: &'a Trainer,
        model: &'a M,
        criterion: &'a C,
        resume: &'a ResumePolicy,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let settings = &trainer.settings;
        let variables = model.variables();
        let identity = trainer.identity(&variables, resume.run_identity())?;
        let stopping = EarlyStopping::new(settings.selection.goal(), settings.patience);
        let goal = settings.scheduler.goal();
        let schedule = ReduceOnPlateau::new(goal, settings.factor, settings.scheduler_patience);
        let loaded = resume.load(&identity)?;
        let mut run = Self {
            trainer,
            resume,
            stepper: Stepper::new(trainer, model, criterion, variables),
            sampler: BatchSampler::new(
                trainer.rows[0].clone(),
                settings.batch_size,
                settings.seed,
            )?,
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
        observer.begin(&StartReport {
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
        set(&self.stepper.variables, &state.part("weight"))?;
        self.stepper.adam.restore(&state.part("adam"))?;
        let best = state.part("best");
        self.best = (!best.is_empty()).then_some(best);
        self.progress = state.progress;
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        if !self.resume.is_enabled() {
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
            .stepper
            .variables
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        let state = State {
            tensors: named("weight", weights.collect())
                .chain(named("adam", self.stepper.adam.state()?))
                .chain(named("best", self.best.clone().unwrap_or_default()))
                .collect(),
            progress: self.progress.clone(),
        };
        self.resume.save(&state)?;
        self.progress.phases.saving += begun.elapsed().as_secs_f64();
        self.saved = Instant::now();
        Ok(())
    }

    /// Runs the current epoch from its first unfinished step. False when no epoch is left.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        if self.progress.ended {
            return Ok(false);
        }
        let finish = self.steps(observer)?;
        let begun = Instant::now();
        let task = |prediction: &Tensor, labels: &Tensor| {
            self.stepper.criterion.task_loss(prediction, labels)
        };
        let (loss, evaluation) =
            self.trainer
                .evaluate(self.stepper.model, &self.trainer.rows[1], Some(&task))?;
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
        let flow = self.close(loss, evaluation.metrics, observer)?;
        self.progress.phases.saving += begun.elapsed().as_secs_f64();
        let p = &mut self.progress;
        p.ended = finish
            || flow == Flow::Finish
            || p.stopping.exhausted(p.epoch)
            || p.epoch >= self.trainer.settings.epochs;
        p.epoch += 1;
        p.step = 0;
        let last = self.progress.ended || flow == Flow::Pause;
        if last || self.resume.is_due_after_epoch(self.saved.elapsed()) {
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

    /// Adds the epoch to the history and keeps its weights if it is the best.
    fn close(&mut self, loss: f64, metrics: Metrics, observer: &mut dyn Observer) -> Result<Flow> {
        let settings = &self.trainer.settings;
        let epoch = self.progress.epoch;
        let best =
            (self.progress.stopping).observe(epoch, settings.selection.value(loss, &metrics));
        if best {
            let weights = copies(&self.stepper.variables)?;
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
            .observe(settings.scheduler.value(loss, &report.valid));
        p.epochs.push(report);
        (p.gradient_norm, p.epoch_seconds) = (0.0, 0.0);
        Ok(flow)
    }

    /// Runs the unfinished steps of the epoch. True when the observer ends the run with this epoch.
    fn steps(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let settings = &self.trainer.settings;
        let epoch = self.progress.epoch;
        let dropout = Stream::new(settings.seed, settings.dropout_stream).child(epoch as u64);
        let batches = self.sampler.epoch(epoch as u64);
        let samples: usize = batches.iter().map(Vec::len).sum();
        let mut finish = false;
        for (i, rows) in batches.iter().enumerate().skip(self.progress.step) {
            let begun = Instant::now();
            let mode = Mode::Training(dropout.child(i as u64));
            let scale = self.progress.schedule.scale();
            let (losses, norm) = self.stepper.step((epoch, i + 1), rows, mode, scale)?;
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
                    if i + 1 < batches.len() && self.resume.is_due(self.saved.elapsed()) =>
                {
                    self.save()?;
                }
                Flow::Continue => {}
            }
        }
        Ok(finish)
    }

    /// Restores the best weights and evaluates them.
    fn conclude(mut self) -> Result<TrainingOutcome> {
        let begun = Instant::now();
        let best = (self.best.take()).zip(self.progress.stopping.best());
        let Some((weights, (best_epoch, _))) = best else {
            return Err(Error::invalid(
                "no model was kept: the monitored validation metric was NaN in every epoch",
            ));
        };
        set(&self.stepper.variables, &weights)?;
        let (_, valid) = self
            .trainer
            .evaluate(self.stepper.model, &self.trainer.rows[1], None)?;
        let (_, test) = self
            .trainer
            .evaluate(self.stepper.model, &self.trainer.rows[2], None)?;
        let mut phases = self.progress.phases;
        phases.test = begun.elapsed().as_secs_f64();
        Ok(TrainingOutcome {
            best_epoch,
            weights,
            epochs: self.progress.epochs,
            valid,
            test,
            phases,
        })
    }
}

/// Copies of the values, because the optimiser updates them in place.
fn copies(variables: &[(String, Var)]) -> Result<BTreeMap<String, Tensor>> {
    let copy = |(name, var): &(String, Var)| Ok((name.clone(), var.as_tensor().copy()?));
    variables.iter().map(copy).collect()
}

/// Sets every variable to the value of its name.
fn set(variables: &[(String, Var)], values: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, variable) in variables {
        let value = values
            .get(name)
            .filter(|value| value.shape() == variable.shape() && value.dtype() == variable.dtype())
            .ok_or_else(|| {
                Error::invalid(format!(
                    "the resume state has no {name} of this shape and dtype"
                ))
            })?;
        variable.set(&value.to_device(variable.device())?)?;
    }
    Ok(())
}
