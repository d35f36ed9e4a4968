//! What a fit found and how it ended.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use decalign_core::device::Backend;
use decalign_core::op::{Output, record};
use decalign_core::{Elements, Error, Real, Result, parallel, with_real};

use super::context::{Context, weights_of};
use super::gradient::{self, Taken};
use super::implicit::ImplicitSolve;
use super::run::{Run, run};
use super::settings::{Dead, Em, Gradient};
use crate::data::{Shape, check_distinct, check_finite};
use crate::mixture::Mixture;
use crate::parameters::Parameters;
use crate::pass::OnDevice;

/// A fitted mixture, or a batch of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fit {
    /// The mixture; it carries gradients as [`Gradient`] says.
    pub mixture: Mixture,
    /// How every problem ended.
    pub ends: Vec<End>,
    solves: Arc<Mutex<Vec<ImplicitSolve>>>,
}

/// How the fit of a problem ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct End {
    /// Steps of expectation and maximisation.
    pub iterations: usize,
    /// Why there were no more.
    pub stop: Stop,
    /// The mean log-likelihood of a sample at the start and after every step; the last is the mixture's.
    pub log_likelihoods: Vec<f64>,
    /// Components without weight.
    pub dead: Vec<usize>,
    /// Which of the starts this is.
    pub start: usize,
}

/// Why a fit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The log-likelihood changed by no more than the tolerance.
    Tolerance,
    /// All steps that were allowed were made.
    MaxIterations,
    /// The log-likelihood was not finite.
    NotFinite,
}

impl End {
    /// Whether the log-likelihood came to rest.
    pub fn converged(&self) -> bool {
        self.stop == Stop::Tolerance
    }

    /// The mean log-likelihood of a sample.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihoods.last().copied().unwrap_or(f64::NAN)
    }
}

impl Fit {
    /// Whether every problem converged.
    pub fn converged(&self) -> bool {
        self.ends.iter().all(End::converged)
    }

    /// How the linear systems of backward passes so far ended, with [`Gradient::Implicit`]; one a problem
    /// and pass.
    pub fn gradient_solves(&self) -> Vec<ImplicitSolve> {
        self.solves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(super) fn fit(em: &Em, x: &Tensor, weights: Option<&Tensor>) -> Result<Fit> {
    if em.gradient == Gradient::Unrolled && em.dead == Dead::Reseed {
        let remedy = "moving a component has no gradient: take Dead::Report, or another gradient";
        return Err(Error::value(
            "gradient",
            "Unrolled with Dead::Reseed",
            remedy,
        ));
    }
    // On a device the passes run there; the start, and gradients, are found on the host.
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
    let shape = Shape::of(x)?;
    let (n, d) = (shape.rows, shape.width);
    let given = weights
        .map(|w| weights_of::<T>(w, x, &shape.with(&[n])))
        .transpose()?;
    let numbers = Elements::<T>::new(x)?;
    check_finite("data", &numbers, d)?;
    let work = shape.count() * n * d * em.components * 50;
    let runs = parallel::map(shape.count(), work, |i| {
        let context = problem(em, &numbers, &shape, given.as_deref(), i);
        check_distinct(&context.data, em.components).map_err(|e| of_problem(&shape, i, e))?;
        let pass = match device {
            None => None,
            Some((backend, x)) => {
                let rows = x.reshape((shape.count() * n, d))?.narrow(0, i * n, n)?;
                let wanted = (em.covariance, em.components);
                OnDevice::new(backend, &rows, &context.data, wanted)?
            }
        };
        let run = run(&context, pass.as_ref()).map_err(|e| of_problem(&shape, i, e))?;
        let mixture = context.data.frame.leave(run.last());
        Ok((run, mixture))
    });
    let (runs, mixtures): (Vec<Run>, Vec<Parameters>) = runs
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let outputs = outputs::<T>(&mixtures, &shape)?;
    let ends = runs.iter().map(|run| run.end.clone()).collect();
    let solves = Arc::<Mutex<Vec<ImplicitSolve>>>::default();
    let parts = match em.gradient {
        Gradient::Nothing => {
            let none = |_: &decalign_core::op::Backward| Ok(Vec::new());
            record("em", &[], outputs, none)?
        }
        _ => {
            let inputs: Vec<&Tensor> = [Some(x), weights].into_iter().flatten().collect();
            let taken = Taken {
                em: em.clone(),
                runs,
                solves: solves.clone(),
            };
            record("em", &inputs, outputs, move |b| {
                gradient::backward::<T>(b, &taken)
            })?
        }
    };
    let [weights, means, covariances] = <[Tensor; 3]>::try_from(parts)
        .map_err(|_| Error::value("outputs", "not three", "one for each part of a mixture"))?;
    Ok(Fit {
        mixture: Mixture::from_parts(em.covariance, weights, means, covariances),
        ends,
        solves,
    })
}

/// An error with the number of its problem, where there are several.
fn of_problem(shape: &Shape, i: usize, error: Error) -> Error {
    match shape.batch {
        None => error,
        Some(_) => Error::value(format!("problem {i}"), "without a fit", error.to_string()),
    }
}

/// Problem `i` of a batch.
pub(super) fn problem<'a, T: Real>(
    em: &'a Em,
    x: &'a [T],
    shape: &Shape,
    weights: Option<&[T]>,
    i: usize,
) -> Context<'a, T> {
    let (n, d) = (shape.rows, shape.width);
    let weights = weights.map(|w| &w[i * n..(i + 1) * n]);
    Context::new(em, &x[i * n * d..(i + 1) * n * d], d, weights, i)
}

fn outputs<T: Real>(mixtures: &[Parameters], shape: &Shape) -> Result<Vec<Output>> {
    let first = &mixtures[0];
    let (k, d, kind) = (first.components(), first.width, first.kind);
    let dims = [vec![k], vec![k, d], kind.shape(k, d)];
    let lost = |v: &T| {
        let remedy = "outside what the data's type can hold: rescale the data, or give it in f64";
        Error::value("a number of the mixture", v, remedy)
    };
    // A variance has to be more than 0 in the data's type too.
    let variances = |m: &Parameters| -> Vec<T> {
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
