//! What the tests share.

use candle_core::{Device, Tensor};
use decalign_core::nn::softmax;
use decalign_ot::{BarycenterProblem, BarycenterSolution, FixedSupportBarycenter};

pub(crate) use crate::common::{distance, normal, numbers, squares};

pub(crate) fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

pub(crate) fn new(x: &[f64]) -> Tensor {
    Tensor::new(x, &Device::Cpu).unwrap()
}

/// `n` points from `from` in steps of `step`, (n, 1).
pub(crate) fn grid(from: f64, step: f64, n: usize) -> Tensor {
    let x: Vec<f64> = (0..n).map(|i| from + step * i as f64).collect();
    new(&x).reshape((n, 1)).unwrap()
}

/// A normal density on points, of total 1.
pub(crate) fn gaussian(x: &Tensor, mean: f64, deviation: f64) -> Tensor {
    let z = ((x.flatten_all().unwrap() - mean).unwrap() / deviation).unwrap();
    softmax(&(z.sqr().unwrap() * -0.5).unwrap()).unwrap()
}

/// The mean and the variance of weights on points of a line.
pub(crate) fn moments(x: &Tensor, weights: &Tensor) -> (f64, f64) {
    let (x, w) = (numbers(x), numbers(weights));
    let total: f64 = w.iter().sum();
    let mean: f64 = x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>() / total;
    let variance = x.iter().zip(&w).map(|(x, w)| w * (x - mean).powi(2));
    (mean, variance.sum::<f64>() / total)
}

pub(crate) fn solver(epsilon: f64) -> FixedSupportBarycenter {
    FixedSupportBarycenter::new(epsilon)
        .unwrap()
        .tolerance(1e-11)
        .unwrap()
}

pub(crate) fn solve(
    problem: &BarycenterProblem,
    epsilon: f64,
    debiased: bool,
) -> BarycenterSolution {
    let solution = solver(epsilon).debiased(debiased).solve(problem).unwrap();
    assert!(
        solution.converged() && solution.marginal_error() <= 1e-11,
        "error {} after {}",
        solution.marginal_error(),
        solution.iterations()
    );
    solution
}
