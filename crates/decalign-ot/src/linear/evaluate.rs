//! The result of a solve: values, marginal errors, and the value's gradient by the envelope theorem.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Result, parallel};

use super::autograd;
use super::implicit::LinearSolve;
use super::marginal::{centred, divided, logs, unscaled};
use super::plan::Plan;
use super::problem::{Gradient, Precision, SolvedBatch, SolvedProblem, cost_gradient};
use crate::convergence::{Convergence, convergence_accessors};
use crate::tensor_convert::{gather, read, tensor};

/// The result of [`crate::Sinkhorn::solve`], of one problem or of a batch of B.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkhornSolution {
    /// The dual value, () or (B); at convergence the regularised cost `<P, C> + eps KL(P | a x b)`, penalties
    /// included. It carries gradients with respect to weights (of exact marginals centred, to a
    /// weighted mean of 0), costs and points, as [`crate::Gradient`] says.
    ///
    /// ```text
    /// <f, a> + <g, b> + eps (|a| |b| - |P|)
    /// ```
    ///
    /// with `rho (1 - exp(-f / rho))` in place of f, and of g, where a side is penalised.
    pub value: Tensor,
    /// The primal value of the plan, () or (B). It exceeds the dual value by the plan's suboptimality. Without gradients.
    pub regularized_cost: Tensor,
    /// `<P, C>`, without regularisation and penalties, () or (B). Without gradients.
    pub transport_cost: Tensor,
    /// f, (n) or (B, n), and g, (m) or (B, m); 0 where a weight is 0, of equal mean over points with
    /// weight when both marginals are exact. Gradients as [`crate::Gradient`] says.
    pub potentials: (Tensor, Tensor),
    /// The plan, whose cells are computed on request.
    pub plan: Plan,
    convergence: Vec<Convergence>,
    solves: Arc<Mutex<Vec<LinearSolve>>>,
}

convergence_accessors!(SinkhornSolution);

impl SinkhornSolution {
    /// How the linear systems of backward passes so far ended, with [`crate::Gradient::Implicit`]; one a
    /// problem and pass.
    pub fn gradient_solves(&self) -> Vec<LinearSolve> {
        self.solves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Evaluates solved problems.
    pub(super) fn new(solved: SolvedBatch, tolerance: f64) -> Result<Self> {
        let evaluate = |one| Evaluation::new(&solved, one, tolerance);
        let found: Vec<Evaluation> = solved.each.iter().map(evaluate).collect();
        let solved = Arc::new(solved);
        let solves = Arc::default();
        let problem = &solved.problem;
        let join =
            |f: &dyn Fn(&Evaluation) -> &[f64]| found.iter().map(f).collect::<Vec<_>>().concat();
        let (f, g) = (join(&|one| &one.f), join(&|one| &one.g));
        let potentials = match solved.gradient {
            Gradient::Envelope => {
                let (n, m) = problem.geometry.size();
                (
                    tensor(&f, problem.shape(&[n]), &problem.a)?,
                    tensor(&g, problem.shape(&[m]), &problem.a)?,
                )
            }
            _ => autograd::potentials(&solved, (f, g), &solves)?,
        };
        let numbers = |numbers: Vec<f64>| tensor(&numbers, problem.shape(&[]), &problem.a);
        Ok(Self {
            value: value(&solved, &found, &potentials)?,
            regularized_cost: numbers(found.iter().map(|one| one.primal).collect())?,
            transport_cost: numbers(solved.each.iter().map(|one| one.totals.cost).collect())?,
            convergence: found.iter().map(|one| one.convergence).collect(),
            plan: Plan {
                solved: solved.clone(),
                potentials: potentials.clone(),
            },
            potentials,
            solves,
        })
    }
}

/// Potentials in units of the cost, values and convergence of one problem.
struct Evaluation {
    f: Vec<f64>,
    g: Vec<f64>,
    dual: f64,
    primal: f64,
    convergence: Convergence,
}

impl Evaluation {
    fn new(batch: &SolvedBatch, solved: &SolvedProblem, tolerance: f64) -> Self {
        let (problem, epsilon) = (&batch.problem, batch.epsilon);
        let ((a, b), totals) = (&solved.weights, &solved.totals);
        let mut f = unscaled(&solved.scaled.0, &logs(a), epsilon);
        let mut g = unscaled(&solved.scaled.1, &logs(b), epsilon);
        if problem.balanced() {
            same_mean(&mut f, &mut g, (a, b));
        }
        let total = |x: &[f64]| x.iter().sum::<f64>();
        let inner = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let (rho_a, rho_b) = problem.penalties;
        let mass = match total(&totals.rows) {
            // A difference within rounding is none, and is not multiplied by epsilon.
            mass if problem.balanced()
                && (mass - total(b)).abs() <= rounding(solved.precision) * mass =>
            {
                total(b)
            }
            mass => mass,
        };
        let rest = epsilon * (total(a) * total(b) - mass);
        let side = |f: &[f64], w: &[f64], rho: f64| {
            f.iter()
                .zip(w)
                .map(|(f, w)| w * conjugate(*f, rho))
                .sum::<f64>()
        };
        let dual = side(&f, a, rho_a) + side(&g, b, rho_b) + rest;
        let primal = inner(&f, &totals.rows)
            + inner(&g, &totals.columns)
            + rest
            + penalty(&totals.rows, a, rho_a)
            + penalty(&totals.columns, b, rho_b);
        let marginal_error = totals.error((&f, &g), (a, b), problem.penalties);
        // Finite in the type of the result.
        let finite = match problem.geometry.dtype() {
            DType::F32 => [dual, primal, totals.cost]
                .iter()
                .all(|v| (*v as f32).is_finite()),
            _ => [dual, primal, totals.cost].iter().all(|v| v.is_finite()),
        };
        let converged = finite && marginal_error <= tolerance * total(a).max(total(b));
        Self {
            f,
            g,
            dual,
            primal,
            convergence: Convergence {
                iterations: solved.iterations,
                marginal_error,
                converged,
            },
        }
    }
}

/// The contribution of a potential to the dual, for a unit of weight.
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

/// The relative rounding error of the sum of a plan's cells.
fn rounding(precision: Precision) -> f64 {
    match precision {
        Precision::Single => 2e-6,
        Precision::Double => 1e-13,
    }
}

/// The mean of the entries that have weight.
fn mean(x: &[f64], weights: &[f64]) -> f64 {
    let with = || x.iter().zip(weights).filter(|(_, w)| **w > 0.0);
    with().map(|(x, _)| x).sum::<f64>() / with().count().max(1) as f64
}

/// Potentials of exact marginals are known up to a constant that moves from one to the other. This one gives both the same mean over
/// points with weight.
fn same_mean(f: &mut [f64], g: &mut [f64], (a, b): (&[f64], &[f64])) {
    let shift = (mean(f, a) - mean(g, b)) / 2.0;
    for (f, w) in f.iter_mut().zip(a) {
        *f -= if *w > 0.0 { shift } else { 0.0 };
    }
    for (g, w) in g.iter_mut().zip(b) {
        *g += if *w > 0.0 { shift } else { 0.0 };
    }
}

/// The dual value, with its gradients at fixed potentials; those of the potentials follow from theirs.
fn value(
    solved: &Arc<SolvedBatch>,
    found: &[Evaluation],
    potentials: &(Tensor, Tensor),
) -> Result<Tensor> {
    let problem = &solved.problem;
    let mut inputs = vec![&problem.a, &problem.b, &potentials.0, &potentials.1];
    inputs.extend(problem.geometry.inputs());
    let duals: Vec<f64> = found.iter().map(|one| one.dual).collect();
    let output = match problem.a.dtype() {
        DType::F32 => Output::new(
            duals.iter().map(|v| *v as f32).collect(),
            problem.shape(&[]),
        ),
        _ => Output::new(duals, problem.shape(&[])),
    };
    let each = solved.each.iter().zip(found);
    let gradients: Vec<Partials> = each
        .map(|(one, found)| Partials::new(solved, one, found))
        .collect();
    let held = solved.clone();
    let value = record_one("sinkhorn", &inputs, output, move |b| {
        value_backward(b, &held, &gradients)
    })?;
    Ok(value.to_device(problem.a.device())?)
}

/// The partial derivatives of a dual value with respect to weights and potentials.
struct Partials {
    a: Vec<f64>,
    b: Vec<f64>,
    f: Vec<f64>,
    g: Vec<f64>,
}

impl Partials {
    fn new(batch: &SolvedBatch, solved: &SolvedProblem, found: &Evaluation) -> Self {
        let (a, b) = &solved.weights;
        let (rho_a, rho_b) = batch.problem.penalties;
        let epsilon = batch.epsilon;
        let exact = batch.problem.balanced();
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
        let (rows, columns) = (&solved.totals.rows, &solved.totals.columns);
        Self {
            f: slope(&found.f, a, rows, rho_a),
            g: slope(&found.g, b, columns, rho_b),
            a: weights(&found.f, a, rows, rho_a, b.iter().sum()),
            b: weights(&found.g, b, columns, rho_b, a.iter().sum()),
        }
    }
}

fn value_backward(
    b: &Backward,
    solved: &SolvedBatch,
    partial: &[Partials],
) -> Result<InputGradients> {
    let outer = read::<f64>(&b.gradient(0)?)?;
    let by = |pick: &dyn Fn(&Partials) -> &[f64]| -> Vec<Vec<f64>> {
        partial
            .iter()
            .zip(&outer)
            .map(|(s, c)| pick(s).iter().map(|v| v * c).collect())
            .collect()
    };
    let parts = [by(&|s| &s.a), by(&|s| &s.b), by(&|s| &s.f), by(&|s| &s.g)];
    let mut gradients = parts
        .iter()
        .zip(b.inputs)
        .map(|(p, x)| Ok(Some(gather(p, x, 1)?)))
        .collect::<Result<Vec<_>>>()?;
    let (n, m) = solved.problem.geometry.size();
    let count = partial.len();
    let needed = &b.needed[4..];
    let costs = parallel::map(count, count * n * m * 20, |i| -> Result<_> {
        let plan = solved.scaled_potentials(i);
        let factors = (&vec![outer[i]; n][..], &vec![1.0; m][..], 1);
        cost_gradient(
            &solved.problem.geometry,
            i,
            plan,
            factors,
            needed,
            solved.each[i].precision,
        )
    });
    let costs = costs.into_iter().collect::<Result<Vec<_>>>()?;
    for (j, x) in b.inputs[4..].iter().enumerate() {
        let each: Option<Vec<_>> = costs.iter().map(|c| c[j].clone()).collect();
        gradients.push(each.map(|each| gather(&each, x, 2)).transpose()?);
    }
    Ok(gradients)
}
