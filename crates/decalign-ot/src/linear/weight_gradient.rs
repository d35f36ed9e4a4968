//! Gradients of weights and costs that values, potentials and applied plans share.

use candle_core::Tensor;
use decalign_core::{Real, Result};

use super::plan_cells::PlanCells;
use super::solved::{Precision, SolvedBatch};
use crate::geometry::{Geometry, Weights};
use crate::tensor_convert::tensor;

/// Sums of `W = P o (left right^T)` that gradients are made of.
pub(super) struct Terms {
    /// Over columns.
    pub(super) rows: Vec<f64>,
    /// Over rows.
    pub(super) columns: Vec<f64>,
    /// The same divided by the weights, centred where the marginals are exact.
    pub(super) weights: (Vec<f64>, Vec<f64>),
    /// `d <W, C>` with respect to what costs are computed from.
    pub(super) costs: Vec<Option<Vec<f64>>>,
}

impl Terms {
    pub(super) fn new(
        solved: &SolvedBatch,
        cells: &PlanCells,
        i: usize,
        (left, right, k): (&[f64], &[f64], usize),
        needed: &[bool],
    ) -> Result<Self> {
        let rows = row_products(left, &cells.apply(right, k, false)?, k);
        let columns = row_products(right, &cells.apply(left, k, true)?, k);
        let (a, b) = &solved.each[i].weights;
        let plan = solved.potentials(i);
        let costs = cost_gradient(
            solved.problem.geometry(),
            i,
            plan,
            (left, right, k),
            needed,
            solved.each[i].precision,
        )?;
        let balanced = solved.problem.balanced();
        let weights = (divided(&rows, a, balanced), divided(&columns, b, balanced));
        Ok(Self {
            rows,
            columns,
            weights,
            costs,
        })
    }
}

/// The gradient of `<P o (left right^T), C>` with respect to the inputs of the costs, at a fixed plan of scaled potentials.
pub(super) fn cost_gradient(
    geometry: &Geometry,
    i: usize,
    (f, g, epsilon): (&[f64], &[f64], f64),
    (left, right, k): (&[f64], &[f64], usize),
    needed: &[bool],
    precision: Precision,
) -> Result<Vec<Option<Vec<f64>>>> {
    fn weights<T: Real>(parts: [&[f64]; 4], epsilon: f64, k: usize) -> Weights<T> {
        let [f, g, left, right] = parts.map(|x| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>());
        Weights {
            f,
            g,
            inverse: T::of(std::f64::consts::LOG2_E / epsilon),
            left,
            right,
            k,
        }
    }
    if !needed.contains(&true) {
        return Ok(vec![None; needed.len()]);
    }
    let parts = [f, g, left, right];
    match precision {
        Precision::Double => geometry.backward(i, &weights::<f64>(parts, epsilon, k), needed),
        Precision::Single => geometry.backward(i, &weights::<f32>(parts, epsilon, k), needed),
    }
}

/// `sum_k x_ik y_ik`.
fn row_products(x: &[f64], y: &[f64], k: usize) -> Vec<f64> {
    let rows = x.chunks_exact(k).zip(y.chunks_exact(k));
    rows.map(|(x, y)| x.iter().zip(y).map(|(x, y)| x * y).sum())
        .collect()
}

/// `x / w`, 0 where there is no weight.
pub(super) fn divided(x: &[f64], weights: &[f64], centre: bool) -> Vec<f64> {
    let mut out: Vec<f64> = x
        .iter()
        .zip(weights)
        .map(|(x, w)| if *w > 0.0 { x / w } else { 0.0 })
        .collect();
    if centre {
        centred(&mut out, weights);
    }
    out
}

/// Moves the entries that have weight to a weighted mean of 0: of weights with a fixed total, gradients
/// are known up to a constant. Weighted, so that a point of hardly any weight, whose entry may be
/// huge, takes no digits from the others.
pub(super) fn centred(x: &mut [f64], weights: &[f64]) {
    let inner: f64 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
    let mean = inner / weights.iter().sum::<f64>();
    for (x, w) in x.iter_mut().zip(weights) {
        *x = if *w > 0.0 { *x - mean } else { 0.0 };
    }
}

/// The mean of the entries that have weight.
pub(super) fn mean(x: &[f64], weights: &[f64]) -> f64 {
    let with = || x.iter().zip(weights).filter(|(_, w)| **w > 0.0);
    with().map(|(x, _)| x).sum::<f64>() / with().count().max(1) as f64
}

/// Potentials of exact marginals are known up to a constant that moves from one to the other: it is
/// chosen so that both have the same mean over points with weight.
pub(super) fn same_mean(f: &mut [f64], g: &mut [f64], (a, b): (&[f64], &[f64])) {
    let shift = (mean(f, a) - mean(g, b)) / 2.0;
    for (f, w) in f.iter_mut().zip(a) {
        *f -= if *w > 0.0 { shift } else { 0.0 };
    }
    for (g, w) in g.iter_mut().zip(b) {
        *g += if *w > 0.0 { shift } else { 0.0 };
    }
}

/// The transpose of [`same_mean`], for gradients; those of points without weight are 0.
pub(super) fn same_mean_backward(
    f: &mut [f64],
    g: &mut [f64],
    (a, b): (&[f64], &[f64]),
    exact: bool,
) {
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

/// Gradients with respect to the weights and to what costs are computed from.
pub(super) struct Gradients {
    pub(super) a: Vec<f64>,
    pub(super) b: Vec<f64>,
    pub(super) costs: Vec<Option<Vec<f64>>>,
}

/// Gradients of all problems as one of an input: side by side, or summed where the input is solved.
pub(super) fn gather(parts: &[Vec<f64>], input: &Tensor, rank: usize) -> Result<Tensor> {
    let numbers = match input.rank() > rank {
        true => parts.concat(),
        false => {
            let mut sum = parts[0].clone();
            for part in &parts[1..] {
                sum.iter_mut().zip(part).for_each(|(s, v)| *s += v);
            }
            sum
        }
    };
    tensor(&numbers, input.dims(), input)
}
