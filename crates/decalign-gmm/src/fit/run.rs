//! The iteration.

use decalign_core::{Error, Real, Result};

use super::context::Context;
use super::settings::{Dead, Gradient};
use super::solution::{End, Stop};
use super::start::Origin;
use crate::parameters::Parameters;
use crate::pass::{self, OnDevice, Tiles};

/// A fit of one problem, in the frame's coordinates.
pub(super) struct Run {
    /// The mixtures before every step where the gradient needs them, and the last.
    pub(super) path: Vec<Parameters>,
    pub(super) origin: Origin,
    pub(super) end: End,
}

impl Run {
    pub(super) fn last(&self) -> &Parameters {
        // The start is one.
        &self.path[self.path.len() - 1]
    }
}

/// The best of all starts.
pub(super) fn run<T: Real>(context: &Context<T>, device: Option<&OnDevice>) -> Result<Run> {
    let random = context.em.start.is_random();
    let starts = if random { context.em.starts } else { 1 };
    let mut best: Option<Run> = None;
    let mut failure = None;
    for number in 0..starts {
        match once(context, number, device) {
            Err(error) => failure = Some(error),
            Ok(run) => {
                let better = |old: &Run| {
                    let new = run.end.log_likelihood();
                    new > old.end.log_likelihood() || old.end.log_likelihood().is_nan()
                };
                if best.as_ref().is_none_or(better) {
                    best = Some(run);
                }
            }
        }
    }
    match (best, failure) {
        (Some(run), _) => Ok(run),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::value("n_init", 0, "must be at least 1")),
    }
}

fn once<T: Real>(context: &Context<T>, number: usize, device: Option<&OnDevice>) -> Result<Run> {
    let em = context.em;
    let (mut mixture, origin) = context.start(number)?;
    let mut path = Vec::new();
    let mut history: Vec<f64> = Vec::new();
    let mut reseeds = 0;
    let volume = context.data.frame.log_volume();
    let stop = loop {
        let factors = mixture.factors(context.epsilon())?;
        let ending = history.len() == em.max_iterations;
        let second = (!ending).then(|| context.second());
        let totals = match device {
            Some(device) => device.expect::<T>(&mixture, &factors, second)?,
            None => {
                let tiles = Tiles::<T>::new(&mixture, &factors);
                pass::expect(&context.data, &mixture, &tiles, second)
            }
        };
        let level = totals.log_likelihood / context.data.total + volume;
        let change = history.last().map(|last| (level - last).abs());
        history.push(level);
        if !level.is_finite() {
            break Stop::NotFinite;
        }
        if change.is_some_and(|change| change <= em.tolerance) {
            break Stop::Tolerance;
        }
        if ending {
            break Stop::MaxIterations;
        }
        let mut next = context.step(&mixture).maximise(&totals.moments);
        if em.dead == Dead::Reseed && reseeds < 10 * em.components {
            reseeds += usize::from(reseed(context, &mut next, totals.farthest.0));
        }
        let before = std::mem::replace(&mut mixture, next);
        if em.gradient == Gradient::Unrolled {
            path.push(before);
        }
    };
    let weights = mixture.weights.iter().enumerate();
    let dead = weights.filter(|(_, w)| **w == 0.0).map(|(k, _)| k);
    let end = End {
        iterations: history.len() - 1,
        dead: dead.collect(),
        log_likelihoods: history,
        stop,
        start: number,
    };
    path.push(mixture);
    Ok(Run { path, origin, end })
}

/// Moves the first component without weight to a sample; returns whether there was one.
fn reseed<T: Real>(context: &Context<T>, mixture: &mut Parameters, row: usize) -> bool {
    let Some(k) = mixture.weights.iter().position(|w| *w == 0.0) else {
        return false;
    };
    let d = mixture.width;
    let share = 1.0 / mixture.components() as f64;
    mixture.weights.iter_mut().for_each(|w| *w *= 1.0 - share);
    mixture.weights[k] = share;
    mixture.means[k * d..][..d].copy_from_slice(&context.data.row(row));
    if mixture.matrices() > 1 {
        mixture.set_matrix(k, &context.all().matrix(0));
    }
    true
}
