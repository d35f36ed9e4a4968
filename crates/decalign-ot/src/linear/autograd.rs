//! Potentials and values as tensors that carry gradients.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record, record_one};
use decalign_core::{Elements, Real, Result, parallel, with_real};

use super::evaluate::{Evaluation, conjugate};
use super::implicit::{self, LinearSolve};
use super::settings::Gradient;
use super::solved::{SolvedBatch, SolvedProblem};
use super::unrolled;
use super::weight_gradient::{centred, cost_gradient, divided, gather, same_mean_backward};
use crate::tensor_convert::{read, select, tensor};

/// f and g as tensors, with the gradients that the settings ask for.
pub(super) fn potentials(
    solved: &Arc<SolvedBatch>,
    found: &[Evaluation],
    solves: &Arc<Mutex<Vec<LinearSolve>>>,
) -> Result<(Tensor, Tensor)> {
    let problem = &solved.problem;
    let (n, m) = problem.geometry.size();
    let join = |f: &dyn Fn(&Evaluation) -> &[f64]| found.iter().map(f).collect::<Vec<_>>().concat();
    let (f, g) = (join(&|p| &p.f), join(&|p| &p.g));
    if solved.gradient == Gradient::Envelope {
        return Ok((
            tensor(&f, problem.shape(&[n]), &problem.a)?,
            tensor(&g, problem.shape(&[m]), &problem.a)?,
        ));
    }
    with_real!("a", problem.a, T => {
        let narrow = |x: Vec<f64>| x.into_iter().map(T::of).collect::<Vec<T>>();
        let outputs = vec![Output::new(narrow(f), problem.shape(&[n])), Output::new(narrow(g), problem.shape(&[m]))];
        let mut inputs = vec![&problem.a, &problem.b];
        inputs.extend(problem.geometry.inputs());
        let (held, solves) = (solved.clone(), solves.clone());
        let mut both = record("sinkhorn_potentials", &inputs, outputs, move |b| {
            potentials_backward(b, &held, &solves)
        })?;
        let g = both.swap_remove(1).to_device(problem.a.device())?;
        Ok((both.swap_remove(0).to_device(problem.a.device())?, g))
    })
}

fn potentials_backward(
    b: &Backward,
    solved: &SolvedBatch,
    solves: &Mutex<Vec<LinearSolve>>,
) -> Result<InputGradients> {
    let (of_f, of_g) = (b.gradient(0)?, b.gradient(1)?);
    let needed = &b.needed[2..];
    let problem = &solved.problem;
    let (n, m) = problem.geometry.size();
    let parts = parallel::map(problem.count(), problem.count() * n * m * 100, |i| {
        let mut f = read::<f64>(&select(&of_f, 1, i)?)?;
        let mut g = read::<f64>(&select(&of_g, 1, i)?)?;
        let (wa, wb) = &solved.each[i].weights;
        same_mean_backward(&mut f, &mut g, (wa, wb), problem.balanced());
        match solved.gradient {
            Gradient::Unrolled => unrolled::backward(solved, i, (&f, &g), needed),
            _ => implicit::backward(solved, i, (&f, &g), needed, solves),
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
pub(super) fn value(
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
    let gradients: Vec<Gradients> = each
        .map(|(one, found)| Gradients::new(solved, one, found))
        .collect();
    let held = solved.clone();
    let value = record_one("sinkhorn", &inputs, output, move |b| {
        value_backward(b, &held, &gradients)
    })?;
    Ok(value.to_device(problem.a.device())?)
}

/// The partial derivatives of a dual value with respect to weights and potentials.
struct Gradients {
    a: Vec<f64>,
    b: Vec<f64>,
    f: Vec<f64>,
    g: Vec<f64>,
}

impl Gradients {
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
    partial: &[Gradients],
) -> Result<InputGradients> {
    let outer = b.gradient(0)?.to_dtype(DType::F64)?;
    let outer = Elements::<f64>::new(&outer)?;
    let by = |pick: &dyn Fn(&Gradients) -> &[f64]| -> Vec<Vec<f64>> {
        partial
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
    let (n, m) = solved.problem.geometry.size();
    let count = partial.len();
    let needed = &b.needed[4..];
    let costs = parallel::map(count, count * n * m * 20, |i| -> Result<_> {
        let plan = solved.potentials(i);
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
