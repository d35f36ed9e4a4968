//! Values and marginal errors of a solved problem.

use candle_core::DType;

use super::iterate::unscaled;
use super::solve::distance;
use super::solved::{Precision, SolvedBatch, SolvedProblem};
use super::weight_gradient::same_mean;
use crate::convergence::Convergence;
use crate::validate::larger;

/// Potentials in units of the cost, values and convergence of one problem.
pub(super) struct Evaluation {
    pub(super) f: Vec<f64>,
    pub(super) g: Vec<f64>,
    pub(super) dual: f64,
    pub(super) primal: f64,
    pub(super) convergence: Convergence,
}

impl Evaluation {
    pub(super) fn new(batch: &SolvedBatch, solved: &SolvedProblem, tolerance: f64) -> Self {
        let (problem, epsilon) = (&batch.problem, batch.epsilon);
        let ((a, b), totals) = (&solved.weights, &solved.totals);
        let logs = |w: &[f64]| w.iter().map(|w| w.log2()).collect::<Vec<f64>>();
        let mut f = unscaled(&solved.scaled.0, &logs(a), epsilon);
        let mut g = unscaled(&solved.scaled.1, &logs(b), epsilon);
        if problem.balanced() {
            same_mean(&mut f, &mut g, (a, b));
        }
        let total = |x: &[f64]| x.iter().sum::<f64>();
        let inner = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let (rho_a, rho_b) = problem.penalties;
        let mass = match total(&totals.rows) {
            // What is lost to rounding would be multiplied by epsilon.
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
        let marginal_error = larger(
            distance(&totals.rows, &f, a, rho_a),
            distance(&totals.columns, &g, b, rho_b),
        );
        // In the type of the result.
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
pub(super) fn conjugate(f: f64, rho: f64) -> f64 {
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
