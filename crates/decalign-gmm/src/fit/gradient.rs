//! Gradients of a fitted mixture with respect to data and sample weights.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients};
use decalign_core::{Elements, Error, Real, Result, parallel};

use super::context::Context;
use super::implicit::{self, ImplicitSolve};
use super::run::Run;
use super::settings::{Em, Gradient};
use super::solution::problem;
use super::start::Origin;
use crate::data::Shape;
use crate::parameters::{Parameters, Second};
use crate::pass::back::{self, Source};
use crate::pass::mixture_back::to_mixture;
use crate::pass::{self, Assigned, Tiles};

/// What a backward pass keeps of the fit.
pub(super) struct Taken {
    pub(super) em: Em,
    pub(super) runs: Vec<Run>,
    pub(super) solves: Arc<Mutex<Vec<ImplicitSolve>>>,
}

pub(super) fn backward<T: Real>(b: &Backward, taken: &Taken) -> Result<InputGradients> {
    let em = &taken.em;
    let (x, weights) = (&b.inputs[0], b.inputs.get(1));
    let shape = Shape::of(x)?;
    let numbers = Elements::<T>::new(x)?;
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
        let context = problem(em, &numbers, &shape, given.as_deref(), i);
        let mut gradient = Parameters::zeros(em.covariance, em.components, shape.width);
        for (to, from) in gradient.parts_mut().into_iter().zip(&parts) {
            let size = to.len();
            to.copy_from_slice(&from[i * size..(i + 1) * size]);
        }
        let gradient = context.data.frame.enter_gradient(&gradient);
        let mut input = Input::zeros(&context);
        let solve = of_problem(&context, &taken.runs[i], gradient, &mut input)?;
        Ok::<_, Error>((input.leave(&context), solve))
    });
    let (mut of_x, mut of_weights, mut solves) = (Vec::new(), Vec::new(), Vec::new());
    for each in each {
        let ((x, weights), solve) = each?;
        of_x.extend(x);
        of_weights.extend(weights);
        solves.extend(solve);
    }
    let mut report = taken.solves.lock().unwrap_or_else(PoisonError::into_inner);
    report.extend(solves);
    let mut gradients = vec![Some(Tensor::from_vec(of_x, x.dims(), x.device())?)];
    if let Some(w) = weights {
        gradients.push(Some(Tensor::from_vec(of_weights, w.dims(), w.device())?));
    }
    Ok(gradients)
}

fn of_problem<T: Real>(
    context: &Context<T>,
    run: &Run,
    gradient: Parameters,
    input: &mut Input<T>,
) -> Result<Option<ImplicitSolve>> {
    match context.em.gradient {
        Gradient::Nothing => Ok(None),
        Gradient::Unrolled => {
            let mut gradient = gradient;
            for pair in run.path.windows(2).rev() {
                gradient = step_back(context, (&pair[0], &pair[1]), &gradient, Some(input))?;
            }
            start_back(context, &run.path[0], &run.origin, &gradient, input);
            Ok(None)
        }
        Gradient::OneStep => {
            let after = step(context, run.last())?;
            step_back(context, (run.last(), &after), &gradient, Some(input))?;
            Ok(None)
        }
        Gradient::Implicit => {
            if !run.end.converged() {
                let remedy = "the fit did not converge, there is no fixed point to differentiate: raise \
                              max_iterations, or take Gradient::Unrolled";
                let steps = format!("unavailable after {} steps", run.end.iterations);
                return Err(Error::value("the implicit gradient", steps, remedy));
            }
            let after = step(context, run.last())?;
            let pair = (run.last(), &after);
            let (v, solve) =
                implicit::solve(pair, &gradient, |v| step_back(context, pair, v, None))?;
            step_back(context, pair, &v, Some(input))?;
            Ok(Some(solve))
        }
    }
}

/// One step of EM.
fn step<T: Real>(context: &Context<T>, before: &Parameters) -> Result<Parameters> {
    let tiles = Tiles::<T>::of(before)?;
    let totals = pass::expect(&context.data, before, &tiles, Some(context.second()));
    Ok(context.step(before).maximise(&totals.moments))
}

/// The gradient with respect to the mixture before a step; adds that with respect to the data.
fn step_back<T: Real>(
    context: &Context<T>,
    (before, after): (&Parameters, &Parameters),
    gradient: &Parameters,
    input: Option<&mut Input<T>>,
) -> Result<Parameters> {
    let mut out = Parameters::zeros(before.kind, before.components(), before.width);
    let quadratics = context.step(before).back(after, gradient, &mut out);
    let factors = before.factors(context.epsilon())?;
    let source = Source::Responsibilities;
    let back = back::back(&context.data, before, Some(&factors), &quadratics, &source);
    to_mixture(before, &factors, &back.moments, &mut out);
    if let Some(input) = input {
        input.add(&back, quadratics.of_total);
    }
    Ok(out)
}

/// From the mixture that a fit started with to the data.
fn start_back<T: Real>(
    context: &Context<T>,
    start: &Parameters,
    origin: &Origin,
    gradient: &Parameters,
    input: &mut Input<T>,
) {
    let d = start.width;
    // What of the covariances is that of all data.
    let shared: Vec<bool> = match origin {
        Origin::Given => return,
        Origin::Rows(rows) => {
            for (row, g) in rows.iter().zip(gradient.means.chunks_exact(d)) {
                let to = &mut input.x[row * d..][..d];
                to.iter_mut().zip(g).for_each(|(t, g)| *t += T::of(*g));
            }
            vec![true; start.matrices()]
        }
        Origin::Assigned(assigned, borrowed) => {
            let mut own = gradient.clone();
            let size = own.covariances.len() / own.matrices();
            for (k, part) in own.covariances.chunks_exact_mut(size).enumerate() {
                if borrowed[k] {
                    part.fill(0.0);
                }
            }
            let centres = Parameters::zeros(start.kind, start.components(), d);
            let step = context.step(&centres);
            // Components without samples kept the centre, whose gradient goes nowhere.
            let mut nowhere = centres.clone();
            let mut after = start.clone();
            let mass = pass::assigned(&context.data, &centres, Second::Nothing, assigned).s0;
            after.weights = mass.iter().map(|m| m / context.data.total).collect();
            let quadratics = step.back(&after, &own, &mut nowhere);
            let source = Source::Assigned(assigned);
            let back = back::back(&context.data, &centres, None, &quadratics, &source);
            input.add(&back, quadratics.of_total);
            borrowed[..start.matrices()].to_vec()
        }
    };
    let mut total = context.nothing();
    let size = total.covariances.len();
    let parts = gradient.covariances.chunks_exact(size).zip(shared);
    for (part, _) in parts.filter(|(_, shared)| *shared) {
        let each = total.covariances.iter_mut().zip(part);
        each.for_each(|(t, g)| *t += g);
    }
    let centre = context.nothing();
    let step = context.step(&centre);
    let quadratics = step.back(&context.all(), &total, &mut context.nothing());
    let source = Source::Assigned(&Assigned::First);
    let back = back::back(&context.data, &centre, None, &quadratics, &source);
    input.add(&back, quadratics.of_total);
}

/// The gradient with respect to samples and weights, in the frame's coordinates.
pub(super) struct Input<T> {
    x: Vec<T>,
    weights: Vec<f64>,
}

impl<T: Real> Input<T> {
    fn zeros(context: &Context<T>) -> Self {
        Self {
            x: vec![T::zero(); context.data.x.len()],
            weights: vec![0.0; context.data.rows()],
        }
    }

    fn add(&mut self, back: &back::Gradients<T>, of_total: f64) {
        self.x.iter_mut().zip(&back.x).for_each(|(t, v)| *t += *v);
        let each = self.weights.iter_mut().zip(&back.weights);
        each.for_each(|(t, v)| *t += v + of_total);
    }

    fn leave(mut self, context: &Context<T>) -> (Vec<T>, Vec<T>) {
        let inverse = &context.data.frame.inverse;
        for row in self.x.chunks_exact_mut(inverse.len()) {
            row.iter_mut().zip(inverse).for_each(|(v, s)| *v *= *s);
        }
        let scale = context.data.weight_scale;
        let weights = self.weights.iter().map(|v| T::of(v * scale)).collect();
        (self.x, weights)
    }
}
