//! Potentials as tensors that carry gradients, by the implicit function theorem or through every sweep.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::{Real, Result, parallel, with_real};

use super::implicit::{self, LinearSolve};
use super::problem::{Gradient, SolvedBatch};
use super::unrolled;
use crate::tensor_convert::{gather, read, select};

/// f and g of all problems as tensors whose gradients go through the solve.
pub(super) fn potentials(
    solved: &Arc<SolvedBatch>,
    (f, g): (Vec<f64>, Vec<f64>),
    solves: &Arc<Mutex<Vec<LinearSolve>>>,
) -> Result<(Tensor, Tensor)> {
    let problem = &solved.problem;
    let (n, m) = problem.geometry.size();
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

/// The transpose of the shift that gives both potentials of exact marginals the same mean, for gradients; those of points without
/// weight are 0.
fn same_mean_backward(f: &mut [f64], g: &mut [f64], (a, b): (&[f64], &[f64]), exact: bool) {
    for (x, w) in f.iter_mut().zip(a).chain(g.iter_mut().zip(b)) {
        *x = if *w > 0.0 { *x } else { 0.0 };
    }
    if !exact {
        return;
    }
    let shift = (g.iter().sum::<f64>() - f.iter().sum::<f64>()) / 2.0;
    let points = |w: &[f64]| w.iter().filter(|w| **w > 0.0).count().max(1) as f64;
    let (n, m) = (points(a), points(b));
    for (f, w) in f.iter_mut().zip(a) {
        *f += if *w > 0.0 { shift / n } else { 0.0 };
    }
    for (g, w) in g.iter_mut().zip(b) {
        *g -= if *w > 0.0 { shift / m } else { 0.0 };
    }
}
