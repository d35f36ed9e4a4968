//! Potentials and values as tensors that carry gradients.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record, record_one};
use decalign_core::{Elements, Real, Result, parallel, with_real};

use super::cells::Shared;
use super::gradient::{centred, divided, gather, pull, same_mean_back};
use super::implicit::{self, LinearSolve};
use super::options::Gradient;
use super::outcome::{Part, conjugate};
use super::unrolled;
use super::walk::Step;
use crate::tensor_convert::{read, select, tensor};

/// f and g as tensors, with the gradients that the settings ask for.
pub(super) fn potentials(
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
            tensor(&f, problem.shape(&[n]), &problem.a)?,
            tensor(&g, problem.shape(&[m]), &problem.a)?,
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
pub(super) fn value(
    shared: &Arc<Shared>,
    parts: &[Part],
    potentials: &(Tensor, Tensor),
) -> Result<Tensor> {
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
        pull(
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
