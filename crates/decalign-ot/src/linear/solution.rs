//! What a solve found and how it ended.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record, record_one};
use decalign_core::{Elements, Real, Result, parallel, with_real};

use super::cells::Totals;
use super::gradient::{Shared, centred, divided, same_mean, same_mean_back};
use super::implicit::{self, LinearSolve};
use super::plan::{Plan, gather};
use super::problem::LinearProblem;
use super::run::{Run, Step, unscaled};
use super::settings::{Gradient, Sinkhorn};
use super::unrolled;
use crate::geometry::{read, select, tensor};

/// The result of [`Sinkhorn::solve`]: of one problem, or side by side of a batch of B.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkhornSolution {
    /// The dual value, () or (B); at convergence the regularised cost `<P, C> + eps KL(P | a x b)`, penalties
    /// included. It carries gradients with respect to weights (of exact marginals centred to mean 0 over
    /// points with weight), costs and points, as [`Gradient`] says.
    ///
    /// ```text
    /// <f, a> + <g, b> + eps (|a| |b| - |P|)
    /// ```
    ///
    /// with `rho (1 - exp(-f / rho))` in place of f, and of g, where a side is penalised.
    pub value: Tensor,
    /// The primal value of the plan as it is, () or (B): above the dual by as much as the plan is from
    /// optimal. Without gradients.
    pub regularized_cost: Tensor,
    /// `<P, C>`, without regularisation and penalties, () or (B). Without gradients.
    pub transport_cost: Tensor,
    /// f, (n) or (B, n), and g, (m) or (B, m); 0 where a weight is 0, of equal mean over points with
    /// weight when both marginals are exact. Gradients as [`Gradient`] says.
    pub potentials: (Tensor, Tensor),
    /// The plan, computed as it is needed.
    pub plan: Plan,
    /// How every problem ended.
    pub ends: Vec<End>,
    solves: Arc<Mutex<Vec<LinearSolve>>>,
}

/// How the solve of a problem ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct End {
    /// Sweeps over the costs, those at larger epsilons included.
    pub iterations: usize,
    /// The larger of the L1 distances of the plan's two marginals from what they should be: the weights,
    /// or where a side is penalised `a exp(-f / rho)`.
    pub marginal_error: f64,
    /// Whether that is within the tolerance. Never true of NaN or infinity.
    pub converged: bool,
}

impl SinkhornSolution {
    /// Whether every problem converged.
    pub fn converged(&self) -> bool {
        self.ends.iter().all(|end| end.converged)
    }

    /// The largest marginal error of the problems.
    pub fn marginal_error(&self) -> f64 {
        let worse = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        self.ends
            .iter()
            .map(|end| end.marginal_error)
            .fold(0.0, worse)
    }

    /// The most sweeps that a problem took.
    pub fn iterations(&self) -> usize {
        self.ends
            .iter()
            .map(|end| end.iterations)
            .max()
            .unwrap_or(0)
    }

    /// How the linear systems of backward passes so far ended, with [`Gradient::Implicit`]; one a
    /// problem and pass.
    pub fn gradient_solves(&self) -> Vec<LinearSolve> {
        self.solves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn new(
        settings: &Sinkhorn,
        problem: &LinearProblem,
        runs: Vec<Run>,
    ) -> Result<Self> {
        let mut iterations = Vec::new();
        let double = runs.iter().map(|run| run.double).collect();
        let (mut scaled, mut tapes, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs {
            iterations.push(run.iterations);
            scaled.push(run.scaled);
            tapes.push(run.tape);
            totals.push(run.totals);
        }
        let (epsilon, gradient) = (settings.epsilon, settings.gradient);
        let shared = Arc::new(Shared {
            problem: problem.clone(),
            scaled,
            double,
            epsilon,
            gradient,
        });
        let ended = totals.into_iter().zip(iterations).enumerate();
        let each =
            ended.map(|(i, (totals, sweeps))| Part::new(&shared, i, settings, totals, sweeps));
        let parts = each.collect::<Result<Vec<_>>>()?;
        let numbers = |f: &dyn Fn(&Part) -> f64| -> Result<Tensor> {
            tensor(
                parts.iter().map(f).collect(),
                &problem.shape(&[]),
                &problem.a,
            )
        };
        let solves = Arc::default();
        let potentials = potentials(&shared, &parts, tapes, &solves)?;
        Ok(Self {
            value: value(&shared, &parts, &potentials)?,
            regularized_cost: numbers(&|part| part.primal)?,
            transport_cost: numbers(&|part| part.totals.cost)?,
            ends: parts.iter().map(|part| part.end).collect(),
            plan: Plan {
                shared,
                potentials: potentials.clone(),
            },
            potentials,
            solves,
        })
    }
}

/// What is found of one problem.
struct Part {
    f: Vec<f64>,
    g: Vec<f64>,
    totals: Totals,
    dual: f64,
    primal: f64,
    end: End,
}

impl Part {
    fn new(
        shared: &Shared,
        i: usize,
        settings: &Sinkhorn,
        totals: Totals,
        iterations: usize,
    ) -> Result<Self> {
        let problem = &shared.problem;
        let (a, b) = problem.weights(i)?;
        let logs = |w: &[f64]| w.iter().map(|w| w.log2()).collect::<Vec<f64>>();
        let (scaled_f, scaled_g) = &shared.scaled[i];
        let mut f = unscaled(scaled_f, &logs(&a), shared.epsilon);
        let mut g = unscaled(scaled_g, &logs(&b), shared.epsilon);
        if problem.balanced() {
            same_mean(&mut f, &mut g, (&a, &b));
        }
        let total = |x: &[f64]| x.iter().sum::<f64>();
        let inner = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let (rho_a, rho_b) = problem.penalties;
        let rest = shared.epsilon * (total(&a) * total(&b) - total(&totals.rows));
        let side = |f: &[f64], w: &[f64], rho: f64| {
            f.iter()
                .zip(w)
                .map(|(f, w)| w * conjugate(*f, rho))
                .sum::<f64>()
        };
        let dual = side(&f, &a, rho_a) + side(&g, &b, rho_b) + rest;
        let primal = inner(&f, &totals.rows)
            + inner(&g, &totals.columns)
            + rest
            + penalty(&totals.rows, &a, rho_a)
            + penalty(&totals.columns, &b, rho_b);
        let distance = |got: &[f64], f: &[f64], w: &[f64], rho: f64| {
            let each = got
                .iter()
                .zip(f)
                .zip(w)
                .map(|((got, f), w)| (got - w * (-f / rho).exp()).abs());
            each.sum::<f64>()
        };
        let errors = [
            distance(&totals.rows, &f, &a, rho_a),
            distance(&totals.columns, &g, &b, rho_b),
        ];
        // The larger, or NaN if one is.
        let marginal_error = if errors[0] > errors[1] || errors[0].is_nan() {
            errors[0]
        } else {
            errors[1]
        };
        let finite = dual.is_finite() && totals.cost.is_finite();
        let tolerance = settings.tolerance * total(&a).max(total(&b));
        let converged = finite && marginal_error <= tolerance;
        let end = End {
            iterations,
            marginal_error,
            converged,
        };
        Ok(Self {
            f,
            g,
            totals,
            dual,
            primal,
            end,
        })
    }
}

/// What a potential contributes to the dual, a unit of weight.
fn conjugate(f: f64, rho: f64) -> f64 {
    if rho.is_infinite() {
        f
    } else {
        -rho * (-f / rho).exp_m1()
    }
}

/// `rho KL(got | weights)`, 0 where the side is exact.
fn penalty(got: &[f64], weights: &[f64], rho: f64) -> f64 {
    if rho.is_infinite() {
        return 0.0;
    }
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() - p + q } else { q };
    rho * got
        .iter()
        .zip(weights)
        .map(|(p, q)| if *q > 0.0 { term(*p, *q) } else { 0.0 })
        .sum::<f64>()
}

/// f and g as tensors, with the gradients that the settings ask for.
fn potentials(
    shared: &Arc<Shared>,
    parts: &[Part],
    tapes: Vec<Vec<Step>>,
    solves: &Arc<Mutex<Vec<LinearSolve>>>,
) -> Result<(Tensor, Tensor)> {
    let problem = &shared.problem;
    let (n, m) = problem.geometry.size();
    let join = |f: &dyn Fn(&Part) -> &[f64]| parts.iter().map(f).collect::<Vec<_>>().concat();
    let (f, g) = (join(&|p| &p.f), join(&|p| &p.g));
    if shared.gradient == Gradient::Envelope {
        return Ok((
            tensor(f, &problem.shape(&[n]), &problem.a)?,
            tensor(g, &problem.shape(&[m]), &problem.a)?,
        ));
    }
    with_real!("a", problem.a, T => {
        let narrow = |x: Vec<f64>| x.into_iter().map(T::of).collect::<Vec<T>>();
        let outputs = vec![Output::new(narrow(f), problem.shape(&[n])), Output::new(narrow(g), problem.shape(&[m]))];
        let mut inputs = vec![&problem.a, &problem.b];
        inputs.extend(problem.geometry.inputs());
        let (held, solves) = (shared.clone(), solves.clone());
        let mut both = record("sinkhorn_potentials", &inputs, outputs, move |b| {
            potentials_back(b, &held, &tapes, &solves)
        })?;
        let g = both.swap_remove(1).to_device(problem.a.device())?;
        Ok((both.swap_remove(0).to_device(problem.a.device())?, g))
    })
}

fn potentials_back(
    b: &Backward,
    shared: &Shared,
    tapes: &[Vec<Step>],
    solves: &Mutex<Vec<LinearSolve>>,
) -> Result<InputGradients> {
    let (of_f, of_g) = (b.gradient(0)?, b.gradient(1)?);
    let needed = &b.needed[2..];
    let problem = &shared.problem;
    let (n, m) = problem.geometry.size();
    let parts = parallel::map(problem.count(), problem.count() * n * m * 100, |i| {
        let mut f = read::<f64>(&select(&of_f, 1, i)?)?;
        let mut g = read::<f64>(&select(&of_g, 1, i)?)?;
        let (wa, wb) = problem.weights(i)?;
        same_mean_back(&mut f, &mut g, (&wa, &wb), problem.balanced());
        match shared.gradient {
            Gradient::Unrolled => unrolled::back(shared, i, (&f, &g), needed, &tapes[i]),
            _ => implicit::back(shared, i, (&f, &g), needed, solves),
        }
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    let (a, of_b): (Vec<_>, Vec<_>) = parts.iter().map(|p| (p.a.clone(), p.b.clone())).unzip();
    let mut gradients = vec![
        Some(gather(&a, &b.inputs[0], 1)?),
        Some(gather(&of_b, &b.inputs[1], 1)?),
    ];
    for (j, x) in b.inputs[2..].iter().enumerate() {
        let each: Option<Vec<_>> = parts.iter().map(|p| p.costs[j].clone()).collect();
        gradients.push(each.map(|each| gather(&each, x, 2)).transpose()?);
    }
    Ok(gradients)
}

/// The dual value, with its gradients at fixed potentials; those of the potentials follow from theirs.
fn value(shared: &Arc<Shared>, parts: &[Part], potentials: &(Tensor, Tensor)) -> Result<Tensor> {
    let problem = &shared.problem;
    let mut inputs = vec![&problem.a, &problem.b, &potentials.0, &potentials.1];
    inputs.extend(problem.geometry.inputs());
    let duals: Vec<f64> = parts.iter().map(|part| part.dual).collect();
    let output = match problem.a.dtype() {
        DType::F32 => Output::new(
            duals.iter().map(|v| *v as f32).collect(),
            problem.shape(&[]),
        ),
        _ => Output::new(duals, problem.shape(&[])),
    };
    let slopes = parts
        .iter()
        .enumerate()
        .map(|(i, part)| Slopes::new(shared, i, part));
    let slopes = slopes.collect::<Result<Vec<_>>>()?;
    let held = shared.clone();
    let value = record_one("sinkhorn", &inputs, output, move |b| {
        value_back(b, &held, &slopes)
    })?;
    Ok(value.to_device(problem.a.device())?)
}

/// The partial derivatives of a dual value with respect to weights and potentials.
struct Slopes {
    a: Vec<f64>,
    b: Vec<f64>,
    f: Vec<f64>,
    g: Vec<f64>,
}

impl Slopes {
    fn new(shared: &Shared, i: usize, part: &Part) -> Result<Self> {
        let (a, b) = shared.problem.weights(i)?;
        let (rho_a, rho_b) = shared.problem.penalties;
        let epsilon = shared.epsilon;
        let exact = shared.problem.balanced();
        let weights = |f: &[f64], w: &[f64], got: &[f64], rho: f64, other: f64| {
            let of_plan = divided(got, w, false);
            let each = f.iter().zip(&of_plan).zip(w);
            let mut out: Vec<f64> = each
                .map(|((f, p), w)| match *w > 0.0 {
                    true => conjugate(*f, rho) + epsilon * (other - p),
                    false => 0.0,
                })
                .collect();
            if exact {
                centred(&mut out, w);
            }
            out
        };
        let slope = |f: &[f64], w: &[f64], got: &[f64], rho: f64| {
            f.iter()
                .zip(w)
                .zip(got)
                .map(|((f, w), got)| w * (-f / rho).exp() - got)
                .collect::<Vec<f64>>()
        };
        let (rows, columns) = (&part.totals.rows, &part.totals.columns);
        Ok(Self {
            f: slope(&part.f, &a, rows, rho_a),
            g: slope(&part.g, &b, columns, rho_b),
            a: weights(&part.f, &a, rows, rho_a, b.iter().sum()),
            b: weights(&part.g, &b, columns, rho_b, a.iter().sum()),
        })
    }
}

fn value_back(b: &Backward, shared: &Shared, slopes: &[Slopes]) -> Result<InputGradients> {
    let outer = b.gradient(0)?.to_dtype(DType::F64)?;
    let outer = Elements::<f64>::new(&outer)?;
    let by = |pick: &dyn Fn(&Slopes) -> &[f64]| -> Vec<Vec<f64>> {
        slopes
            .iter()
            .zip(outer.iter())
            .map(|(s, c)| pick(s).iter().map(|v| v * c).collect())
            .collect()
    };
    let parts = [by(&|s| &s.a), by(&|s| &s.b), by(&|s| &s.f), by(&|s| &s.g)];
    let mut gradients = parts
        .iter()
        .zip(b.inputs)
        .map(|(p, x)| Ok(Some(gather(p, x, 1)?)))
        .collect::<Result<Vec<_>>>()?;
    let (n, m) = shared.problem.geometry.size();
    let count = slopes.len();
    let needed = &b.needed[4..];
    let costs = parallel::map(count, count * n * m * 20, |i| -> Result<_> {
        let (f, g) = &shared.scaled[i];
        let plan = (&f[..], &g[..], shared.epsilon);
        let factors = (&vec![outer[i]; n][..], &vec![1.0; m][..], 1);
        super::gradient::pull(
            &shared.problem.geometry,
            i,
            plan,
            factors,
            needed,
            shared.double[i],
        )
    });
    let costs = costs.into_iter().collect::<Result<Vec<_>>>()?;
    for (j, x) in b.inputs[4..].iter().enumerate() {
        let each: Option<Vec<_>> = costs.iter().map(|c| c[j].clone()).collect();
        gradients.push(each.map(|each| gather(&each, x, 2)).transpose()?);
    }
    Ok(gradients)
}
