//! EM iterations of one problem.

use decalign_core::{Error, Real, Result};

use super::initialization::Origin;
use super::problem::Problem;
use super::settings::{EmptyComponent, Gradient};
use super::solution::{Convergence, StoppingReason};
use crate::e_step::{self, DeviceSamples, PackedMixture};
use crate::parameters::MixtureParameters;

/// The fit of one problem, in standardised coordinates.
pub(super) struct Trajectory {
    /// The mixture before each step if the gradient needs it, and the last mixture.
    pub(super) mixtures: Vec<MixtureParameters>,
    pub(super) origin: Origin,
    pub(super) convergence: Convergence,
}

impl Trajectory {
    pub(super) fn last(&self) -> &MixtureParameters {
        // Never empty.
        &self.mixtures[self.mixtures.len() - 1]
    }
}

/// The fit of largest log-likelihood among all restarts.
pub(super) fn best_of_restarts<T: Real>(
    problem: &Problem<T>,
    device: Option<&DeviceSamples>,
) -> Result<Trajectory> {
    let random = problem.em.initialization.is_random();
    let restarts = if random { problem.em.restarts } else { 1 };
    let mut best: Option<Trajectory> = None;
    let mut failure = None;
    for restart in 0..restarts {
        match iterate(problem, restart, device) {
            Err(error) => failure = Some(error),
            Ok(fit) => {
                let better = |old: &Trajectory| {
                    let new = fit.convergence.log_likelihood();
                    new > old.convergence.log_likelihood()
                        || old.convergence.log_likelihood().is_nan()
                };
                if best.as_ref().is_none_or(better) {
                    best = Some(fit);
                }
            }
        }
    }
    match (best, failure) {
        (Some(fit), _) => Ok(fit),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::value("n_init", 0, "must be at least 1")),
    }
}

fn iterate<T: Real>(
    problem: &Problem<T>,
    restart: usize,
    device: Option<&DeviceSamples>,
) -> Result<Trajectory> {
    let em = problem.em;
    let (mut mixture, origin) = problem.initialize(restart)?;
    let mut mixtures = Vec::new();
    let mut log_likelihoods: Vec<f64> = Vec::new();
    let mut reseeds = 0;
    let mut centred = false;
    let volume = problem.samples.standardization.log_volume();
    let reason = loop {
        let factors = mixture.factors(T::epsilon().as_f64())?;
        let last = log_likelihoods.len() == em.max_iterations;
        let e_step = |second| match device {
            Some(device) => device.e_step::<T>(&mixture, &factors, second),
            None => {
                let tiles = PackedMixture::<T>::new(&mixture, &factors);
                Ok(e_step::e_step(&problem.samples, &mixture, &tiles, second))
            }
        };
        let sums = e_step((!last).then(|| problem.second_moment(centred)))?;
        let log_likelihood = sums.log_likelihood / problem.samples.total + volume;
        let change = log_likelihoods
            .last()
            .map(|before| (log_likelihood - before).abs());
        log_likelihoods.push(log_likelihood);
        if !log_likelihood.is_finite() {
            break StoppingReason::NotFinite;
        }
        if change.is_some_and(|change| change <= em.effective_tolerance::<T>()) {
            break StoppingReason::Tolerance;
        }
        if last {
            break StoppingReason::MaxIterations;
        }
        let mut next = problem.m_step(&mixture, centred).maximise(&sums.statistics);
        if !centred && problem.cancelled(&next) {
            centred = true;
            let sums = e_step(Some(problem.second_moment(centred)))?;
            next = problem.m_step(&mixture, centred).maximise(&sums.statistics);
        }
        if em.empty_components == EmptyComponent::Reseed && reseeds < 10 * em.components {
            reseeds += usize::from(reseed(problem, &mut next, sums.least_likely.0));
        }
        let before = std::mem::replace(&mut mixture, next);
        if em.gradient == Gradient::Unrolled {
            mixtures.push(before);
        }
    };
    let weights = mixture.weights.iter().enumerate();
    let empty = weights.filter(|(_, w)| **w == 0.0).map(|(k, _)| k);
    let convergence = Convergence {
        iterations: log_likelihoods.len() - 1,
        empty_components: empty.collect(),
        log_likelihoods,
        reason,
        restart,
    };
    mixtures.push(mixture);
    Ok(Trajectory {
        mixtures,
        origin,
        convergence,
    })
}

/// Moves the first empty component to a sample; returns whether there was one.
fn reseed<T: Real>(problem: &Problem<T>, mixture: &mut MixtureParameters, row: usize) -> bool {
    let Some(k) = mixture.weights.iter().position(|w| *w == 0.0) else {
        return false;
    };
    let d = mixture.width;
    let share = 1.0 / mixture.components() as f64;
    mixture.weights.iter_mut().for_each(|w| *w *= 1.0 - share);
    mixture.weights[k] = share;
    mixture.means[k * d..][..d].copy_from_slice(&problem.samples.row(row));
    if mixture.matrices() > 1 {
        mixture.set_matrix(k, &problem.pooled().matrix(0));
    }
    true
}
