//! What is found of one problem.

use decalign_core::Result;

use super::cells::{Shared, Totals};
use super::gradient::same_mean;
use super::options::Settings;
use super::walk::unscaled;
use crate::end::End;

/// What is found of one problem.
pub(super) struct Part {
    pub(super) f: Vec<f64>,
    pub(super) g: Vec<f64>,
    pub(super) totals: Totals,
    pub(super) dual: f64,
    pub(super) primal: f64,
    pub(super) end: End,
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
