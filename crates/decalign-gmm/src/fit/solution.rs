//! The fit of a batch of problems, and its result.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use decalign_core::device::Backend;
use decalign_core::op::{Output, record};
use decalign_core::{Elements, Error, Real, Result, parallel, with_real};

use super::backward::{self, Saved};
use super::implicit::ImplicitSolve;
use super::iterate::{Trajectory, best_of_restarts};
use super::problem::Problem;
use super::settings::{Em, EmptyComponent, Gradient};
use crate::e_step::DeviceSamples;
use crate::mixture::Mixture;
use crate::parameters::MixtureParameters;
use crate::samples::{SampleShape, check_finite, read_weights};

/// A fitted mixture, or a batch of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fit {
    /// The mixture; it carries gradients as [`Gradient`] says.
    pub mixture: Mixture,
    convergence: Vec<Convergence>,
    solves: Arc<Mutex<Vec<ImplicitSolve>>>,
}

/// How the EM iterations of one problem ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Convergence {
    /// EM steps.
    pub iterations: usize,
    /// Why they ended.
    pub reason: StoppingReason,
    /// The mean log-likelihood of a sample at the start and after every step; the last is the mixture's.
    pub log_likelihoods: Vec<f64>,
    /// Components without weight.
    pub empty_components: Vec<usize>,
    /// The restart (of `n_init`) that this fit is from.
    pub restart: usize,
}

/// Why the iterations ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoppingReason {
    /// The log-likelihood changed by no more than the tolerance.
    Tolerance,
    /// The maximum number of iterations was reached.
    MaxIterations,
    /// The log-likelihood was not finite.
    NotFinite,
}

impl Convergence {
    /// True if the change of the log-likelihood fell to the tolerance.
    pub fn converged(&self) -> bool {
        self.reason == StoppingReason::Tolerance
    }

    /// The mean log-likelihood of a sample.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihoods.last().copied().unwrap_or(f64::NAN)
    }
}

impl Fit {
    /// How the iterations of each problem of the batch ended.
    pub fn convergence(&self) -> &[Convergence] {
        &self.convergence
    }

    /// True if every problem converged.
    pub fn converged(&self) -> bool {
        self.convergence.iter().all(Convergence::converged)
    }

    /// How the linear solves of the backward passes so far ended, with [`Gradient::Implicit`]: one entry for each problem and
    /// backward pass.
    pub fn gradient_solves(&self) -> Vec<ImplicitSolve> {
        self.solves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(super) fn fit(em: &Em, x: &Tensor, weights: Option<&Tensor>) -> Result<Fit> {
    if em.gradient == Gradient::Unrolled && em.empty_components == EmptyComponent::Reseed {
        let remedy =
            "moving a component has no gradient: take EmptyComponent::Report, or another gradient";
        return Err(Error::value(
            "gradient",
            "Unrolled with EmptyComponent::Reseed",
            remedy,
        ));
    }
    // On a device the E-steps run there; the initialisation and the gradients are computed on the host.
    let backend = Backend::of(x)?;
    let device = backend.as_ref().map(|b| (b, x.detach()));
    let host = |x: &Tensor| x.to_device(&Device::Cpu);
    let (data, weights) = (host(x)?, weights.map(host).transpose()?);
    let mut fit =
        with_real!("data", data, T => fit_as::<T>(em, &data, weights.as_ref(), device.as_ref()))?;
    if backend.is_some() {
        fit.mixture = fit.mixture.to_device(x.device())?;
    }
    Ok(fit)
}

fn fit_as<T: Real>(
    em: &Em,
    x: &Tensor,
    weights: Option<&Tensor>,
    device: Option<&(&Backend, Tensor)>,
) -> Result<Fit> {
    let shape = SampleShape::of(x)?;
    let (n, d) = (shape.rows, shape.width);
    let given = weights
        .map(|w| read_weights::<T>(w, x, &shape.with(&[n])))
        .transpose()?;
    let values = Elements::<T>::new(x)?;
    check_finite("data", &values, d)?;
    let work = shape.count() * n * d * em.components * 50;
    let fits = parallel::map(shape.count(), work, |i| {
        let problem = Problem::new(em, &values, &shape, given.as_deref(), i);
        let device = match device {
            None => None,
            Some((backend, x)) => {
                let rows = x.reshape((shape.count() * n, d))?.narrow(0, i * n, n)?;
                let wanted = (em.covariance, em.components);
                DeviceSamples::new(backend, &rows, &problem.samples, wanted)?
            }
        };
        let fit =
            best_of_restarts(&problem, device.as_ref()).map_err(|e| of_problem(&shape, i, e))?;
        let mixture = problem.samples.standardization.restore(fit.last());
        Ok((fit, mixture))
    });
    let (fits, mixtures): (Vec<Trajectory>, Vec<MixtureParameters>) = fits
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let outputs = outputs::<T>(&mixtures, &shape)?;
    let convergence = fits.iter().map(|fit| fit.convergence.clone()).collect();
    let solves = Arc::<Mutex<Vec<ImplicitSolve>>>::default();
    let parts = match em.gradient {
        Gradient::Nothing => {
            let none = |_: &decalign_core::op::Backward| Ok(Vec::new());
            record("em", &[], outputs, none)?
        }
        _ => {
            let inputs: Vec<&Tensor> = [Some(x), weights].into_iter().flatten().collect();
            let saved = Saved {
                em: em.clone(),
                fits,
                solves: solves.clone(),
            };
            record("em", &inputs, outputs, move |b| {
                backward::backward::<T>(b, &saved)
            })?
        }
    };
    let [weights, means, covariances] = <[Tensor; 3]>::try_from(parts)
        .map_err(|_| Error::value("outputs", "not three", "one for each part of a mixture"))?;
    Ok(Fit {
        mixture: Mixture::from_parts(em.covariance, weights, means, covariances),
        convergence,
        solves,
    })
}

/// The error with the index of its problem, if there are several.
fn of_problem(shape: &SampleShape, i: usize, error: Error) -> Error {
    match shape.batch {
        None => error,
        Some(_) => Error::value(format!("problem {i}"), "without a fit", error.to_string()),
    }
}

fn outputs<T: Real>(mixtures: &[MixtureParameters], shape: &SampleShape) -> Result<Vec<Output>> {
    let first = &mixtures[0];
    let (k, d, kind) = (first.components(), first.width, first.kind);
    let dims = [vec![k], vec![k, d], kind.shape(k, d)];
    let lost = |v: &T| {
        let remedy = "outside what the data's type can hold: rescale the data, or give it in f64";
        Error::value("a number of the mixture", v, remedy)
    };
    // A variance must not round to 0 in the data's type.
    let variances = |m: &MixtureParameters| -> Vec<T> {
        let each = (0..k * d).map(|at| T::of(m.variance(at / d, at % d)));
        each.collect()
    };
    if let Some(v) = mixtures
        .iter()
        .flat_map(variances)
        .find(|v| *v == T::zero())
    {
        return Err(lost(&v));
    }
    let part = |i: usize| -> Result<Output> {
        let numbers = mixtures.iter().flat_map(|m| m.parts()[i]);
        let narrow: Vec<T> = numbers.map(|v| T::of(*v)).collect();
        if let Some(v) = narrow.iter().find(|v| !v.is_finite()) {
            return Err(lost(v));
        }
        Ok(Output::new(narrow, shape.with(&dims[i])))
    };
    (0..3).map(part).collect()
}
