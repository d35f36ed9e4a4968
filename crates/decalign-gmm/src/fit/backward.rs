//! The gradient of a fitted mixture with respect to data and sample weights.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients};
use decalign_core::{Elements, Error, Real, Result, parallel};

use super::implicit::{self, ImplicitSolve};
use super::initialization::Origin;
use super::iterate::Trajectory;
use super::problem::Problem;
use super::settings::{Em, Gradient};
use crate::e_step::backward::{self as e_step_backward, Source};
use crate::e_step::mixture_gradient::add_mixture_gradient;
use crate::e_step::{self, Assignment, PackedMixture};
use crate::parameters::MixtureParameters;
use crate::samples::SampleShape;

/// The record of the forward pass for the backward pass.
pub(super) struct Saved {
    pub(super) em: Em,
    pub(super) fits: Vec<Trajectory>,
    pub(super) solves: Arc<Mutex<Vec<ImplicitSolve>>>,
}

pub(super) fn backward<T: Real>(b: &Backward, saved: &Saved) -> Result<InputGradients> {
    let em = &saved.em;
    let (x, weights) = (&b.inputs[0], b.inputs.get(1));
    let shape = SampleShape::of(x)?;
    let values = Elements::<T>::new(x)?;
    let given = weights.map(|w| Elements::<T>::new(w).map(|w| w.to_vec()));
    let given = given.transpose()?;
    let parts = (0..3).map(|i| {
        let gradient = b.gradient(i)?;
        Ok(Elements::<T>::new(&gradient)?
            .iter()
            .map(|v| v.as_f64())
            .collect())
    });
    let parts = parts.collect::<Result<Vec<Vec<f64>>>>()?;
    let work = shape.count() * shape.rows * shape.width * em.components * 100;
    let each = parallel::map(shape.count(), work, |i| {
        let problem = Problem::new(em, &values, &shape, given.as_deref(), i);
        let mut gradient = MixtureParameters::zeros(em.covariance, em.components, shape.width);
        for (to, from) in gradient.parts_mut().into_iter().zip(&parts) {
            let size = to.len();
            to.copy_from_slice(&from[i * size..(i + 1) * size]);
        }
        let gradient = problem
            .samples
            .standardization
            .standardize_gradient(&gradient);
        let mut input = InputGradient::zeros(&problem);
        let solve = problem_backward(&problem, &saved.fits[i], gradient, &mut input)?;
        Ok::<_, Error>((input.restore(&problem), solve))
    });
    let (mut of_x, mut of_weights, mut solves) = (Vec::new(), Vec::new(), Vec::new());
    for each in each {
        let ((x, weights), solve) = each?;
        of_x.extend(x);
        of_weights.extend(weights);
        solves.extend(solve);
    }
    let mut report = saved.solves.lock().unwrap_or_else(PoisonError::into_inner);
    report.extend(solves);
    let mut gradients = vec![Some(Tensor::from_vec(of_x, x.dims(), x.device())?)];
    if let Some(w) = weights {
        gradients.push(Some(Tensor::from_vec(of_weights, w.dims(), w.device())?));
    }
    Ok(gradients)
}

fn problem_backward<T: Real>(
    problem: &Problem<T>,
    fit: &Trajectory,
    gradient: MixtureParameters,
    input: &mut InputGradient<T>,
) -> Result<Option<ImplicitSolve>> {
    match problem.em.gradient {
        Gradient::Nothing => Ok(None),
        Gradient::Unrolled => {
            let mut gradient = gradient;
            for pair in fit.mixtures.windows(2).rev() {
                gradient = step_backward(problem, (&pair[0], &pair[1]), &gradient, Some(input))?;
            }
            initialization_backward(problem, &fit.mixtures[0], &fit.origin, &gradient, input);
            Ok(None)
        }
        Gradient::OneStep => {
            let after = em_step(problem, fit.last())?;
            step_backward(problem, (fit.last(), &after), &gradient, Some(input))?;
            Ok(None)
        }
        Gradient::Implicit => {
            if !fit.convergence.converged() {
                let remedy = "the fit did not converge, there is no fixed point to differentiate: raise \
                              max_iterations, or take Gradient::Unrolled";
                let steps = format!("unavailable after {} steps", fit.convergence.iterations);
                return Err(Error::value("the implicit gradient", steps, remedy));
            }
            let after = em_step(problem, fit.last())?;
            let pair = (fit.last(), &after);
            let (v, solve) =
                implicit::solve(pair, &gradient, |v| step_backward(problem, pair, v, None))?;
            step_backward(problem, pair, &v, Some(input))?;
            Ok(Some(solve))
        }
    }
}

/// One EM step.
fn em_step<T: Real>(problem: &Problem<T>, before: &MixtureParameters) -> Result<MixtureParameters> {
    let tiles = PackedMixture::<T>::of(before)?;
    let sums = e_step::e_step(
        &problem.samples,
        before,
        &tiles,
        Some(problem.second_moment(true)),
    );
    Ok(problem.m_step(before, true).maximise(&sums.statistics))
}

/// The gradient with respect to the mixture before a step; adds that with respect to the samples to `input`.
fn step_backward<T: Real>(
    problem: &Problem<T>,
    (before, after): (&MixtureParameters, &MixtureParameters),
    gradient: &MixtureParameters,
    input: Option<&mut InputGradient<T>>,
) -> Result<MixtureParameters> {
    let mut out = MixtureParameters::zeros(before.kind, before.components(), before.width);
    let responsibility_gradient = problem
        .m_step(before, true)
        .backward(after, gradient, &mut out);
    let factors = before.factors(T::epsilon().as_f64())?;
    let source = Source::Responsibilities;
    let gradients = e_step_backward::backward(
        &problem.samples,
        before,
        Some(&factors),
        &responsibility_gradient,
        &source,
    );
    add_mixture_gradient(before, &factors, &gradients.statistics, &mut out);
    if let Some(input) = input {
        input.add(&gradients, responsibility_gradient.total);
    }
    Ok(out)
}

/// From the gradient of the initial mixture to that of the samples.
fn initialization_backward<T: Real>(
    problem: &Problem<T>,
    start: &MixtureParameters,
    origin: &Origin,
    gradient: &MixtureParameters,
    input: &mut InputGradient<T>,
) {
    let d = start.width;
    // Which components have the covariance of all samples.
    let pooled: Vec<bool> = match origin {
        Origin::Given => return,
        Origin::Rows(rows) => {
            for (row, g) in rows.iter().zip(gradient.means.chunks_exact(d)) {
                let to = &mut input.x[row * d..][..d];
                to.iter_mut().zip(g).for_each(|(t, g)| *t += T::of(*g));
            }
            vec![true; start.matrices()]
        }
        Origin::Assignment(assigned, borrowed) => {
            let mut own = gradient.clone();
            let size = own.covariances.len() / own.matrices();
            for (k, part) in own.covariances.chunks_exact_mut(size).enumerate() {
                if borrowed[k] {
                    part.fill(0.0);
                }
            }
            let (centres, mass) = problem.assigned_means(assigned);
            let step = problem.m_step(&centres, true);
            // Empty components keep the centre, a constant: its gradient is dropped.
            let mut dropped = MixtureParameters::zeros(start.kind, start.components(), start.width);
            let mut after = start.clone();
            after.weights = mass.iter().map(|m| m / problem.samples.total).collect();
            let responsibility_gradient = step.backward(&after, &own, &mut dropped);
            let source = Source::Assignment(assigned);
            let gradients = e_step_backward::backward(
                &problem.samples,
                &centres,
                None,
                &responsibility_gradient,
                &source,
            );
            input.add(&gradients, responsibility_gradient.total);
            borrowed[..start.matrices()].to_vec()
        }
    };
    let mut total = problem.zero_component();
    let size = total.covariances.len();
    let parts = gradient.covariances.chunks_exact(size).zip(pooled);
    for (part, _) in parts.filter(|(_, pooled)| *pooled) {
        let each = total.covariances.iter_mut().zip(part);
        each.for_each(|(t, g)| *t += g);
    }
    let centre = problem.zero_component();
    let step = problem.m_step(&centre, false);
    let responsibility_gradient =
        step.backward(&problem.pooled(), &total, &mut problem.zero_component());
    let source = Source::Assignment(&Assignment::Single);
    let gradients = e_step_backward::backward(
        &problem.samples,
        &centre,
        None,
        &responsibility_gradient,
        &source,
    );
    input.add(&gradients, responsibility_gradient.total);
}

/// The gradient with respect to standardised samples and scaled weights.
pub(super) struct InputGradient<T> {
    x: Vec<T>,
    weights: Vec<f64>,
}

impl<T: Real> InputGradient<T> {
    fn zeros(problem: &Problem<T>) -> Self {
        Self {
            x: vec![T::zero(); problem.samples.x.len()],
            weights: vec![0.0; problem.samples.rows()],
        }
    }

    fn add(&mut self, gradients: &e_step_backward::Gradients<T>, total: f64) {
        self.x
            .iter_mut()
            .zip(&gradients.x)
            .for_each(|(t, v)| *t += *v);
        let each = self.weights.iter_mut().zip(&gradients.weights);
        each.for_each(|(t, v)| *t += v + total);
    }

    fn restore(mut self, problem: &Problem<T>) -> (Vec<T>, Vec<T>) {
        problem
            .samples
            .standardization
            .restore_row_gradient(&mut self.x);
        let scale = problem.samples.weight_scale;
        let weights = self.weights.iter().map(|v| T::of(v * scale)).collect();
        (self.x, weights)
    }
}
