//! What is found of one problem.

use candle_core::DType;
use decalign_core::Result;

use super::cells::{Shared, Totals};
use super::gradient::same_mean;
use super::options::Settings;
use super::run::distance;
use super::walk::unscaled;
use crate::convergence::Convergence;
use crate::validate::larger;

/// What is found of one problem.
pub(super) struct Part {
    pub(super) f: Vec<f64>,
    pub(super) g: Vec<f64>,
    pub(super) totals: Totals,
    pub(super) dual: f64,
    pub(super) primal: f64,
    pub(super) convergence: Convergence,
}

impl Part {
    pub(super) fn new(
        shared: &Shared,
        i: usize,
        settings: &Settings,
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
        let mass = match total(&totals.rows) {
            // What is lost to rounding would be multiplied by epsilon.
            mass if problem.balanced()
                && (mass - total(&b)).abs() <= rounding(shared.double[i]) * mass =>
            {
                total(&b)
            }
            mass => mass,
        };
        let rest = shared.epsilon * (total(&a) * total(&b) - mass);
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
        let marginal_error = larger(
            distance(&totals.rows, &f, &a, rho_a),
            distance(&totals.columns, &g, &b, rho_b),
        );
        // As they are handed out.
        let finite = match problem.geometry.dtype() {
            DType::F32 => [dual, primal, totals.cost]
                .iter()
                .all(|v| (*v as f32).is_finite()),
            _ => [dual, primal, totals.cost].iter().all(|v| v.is_finite()),
        };
        let tolerance = settings.stopping.tolerance * total(&a).max(total(&b));
        let converged = finite && marginal_error <= tolerance;
        let convergence = Convergence {
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
            convergence,
        })
    }
}

/// What a potential contributes to the dual, a unit of weight.
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

/// The relative error of the sum of a plan's cells.
fn rounding(double: bool) -> f64 {
    if double { 1e-13 } else { 2e-6 }
}
