//! Solves one problem: precision, stages of epsilon, restarts.

use candle_core::DType;
use decalign_core::simd::Aligned;
use decalign_core::{Real, Result};

use super::iterate::{End, Step, Walk, unscaled};
use super::marginal::Side;
use super::plan_cells::Totals;
use super::problem::LinearProblem;
use super::settings::{Gradient, Settings, Update};
use super::solved::{Precision, SolvedProblem};
use super::sweep::Scaling;
use crate::geometry::{Costs, padded};
use crate::schedule::{
    MAX_RESTARTS, RESTART_REDUCTION, STAGE_SWEEPS, STAGE_TOLERANCE, UNSCALED_RANGE, fits_f32,
};
use crate::validate::larger;

/// One problem on its way to a solution.
struct Solve<'a> {
    settings: &'a Settings,
    penalties: (f64, f64),
    /// The larger total of the weights.
    mass: f64,
    solved: SolvedProblem,
}

/// Solves problem `i`, from potentials `start` where they are given.
pub(super) fn solve(
    settings: &Settings,
    problem: &LinearProblem,
    i: usize,
    start: Option<(Vec<f64>, Vec<f64>)>,
) -> Result<SolvedProblem> {
    let epsilon = settings.schedule.epsilon;
    let (a, b) = problem.weights(i)?;
    let mass = a.iter().sum::<f64>().max(b.iter().sum());
    let scaled = match &start {
        Some((f, g)) => (scaled(f, &a, epsilon), scaled(g, &b, epsilon)),
        None => (logs(&a), logs(&b)),
    };
    let (f, g) = start.unwrap_or_else(|| (vec![0.0; a.len()], vec![0.0; b.len()]));
    let warm = f.iter().chain(&g).any(|v| *v != 0.0);
    let first = Step {
        epsilon,
        relaxation: 1.0,
        symmetric: false,
        f,
        g,
    };
    let mut solve = Solve {
        settings,
        penalties: problem.penalties,
        mass,
        solved: SolvedProblem {
            weights: (a, b),
            scaled,
            precision: Precision::Single,
            iterations: 0,
            totals: Totals::default(),
            tape: vec![first],
        },
    };
    let stages = |range: f64| {
        let range = if warm { 0.0 } else { range };
        settings.schedule.stages(range, UNSCALED_RANGE)
    };
    let mut stages_left = None;
    if problem.geometry.dtype() == DType::F32 {
        let costs = problem.geometry.read::<f32>(i)?;
        let range = costs.range();
        if fits_f32(range, epsilon, mass) {
            let end = solve.advance(&costs, &stages(range), solve.target());
            if end == End::Limit || solve.error() <= solve.target() {
                return Ok(solve.solved);
            }
            // Rounding in f32 prevents convergence: continue in f64 from here.
            stages_left = Some(vec![epsilon]);
        }
    }
    solve.solved.precision = Precision::Double;
    let costs = problem.geometry.read::<f64>(i)?;
    let stages = stages_left.unwrap_or_else(|| stages(costs.range()));
    solve.settle(&costs, &stages);
    Ok(solve.solved)
}

impl Solve<'_> {
    fn epsilon(&self) -> f64 {
        self.settings.schedule.epsilon
    }

    /// The marginal error to be called converged.
    fn target(&self) -> f64 {
        self.settings.stopping.tolerance * self.mass
    }

    /// Goes through the stages, and on until the plan's own marginals are within the tolerance: those
    /// seen during a sweep can be a little nearer.
    fn settle(&mut self, costs: &Costs<f64>, stages: &[f64]) {
        let mut tolerance = self.target();
        let mut end = self.advance(costs, stages, tolerance);
        for _ in 0..MAX_RESTARTS {
            if end != End::Converged || self.error() <= self.target() {
                return;
            }
            tolerance *= RESTART_REDUCTION;
            end = self.advance(costs, &[self.epsilon()], tolerance);
        }
    }

    /// The larger L1 error of the last plan's marginals.
    fn error(&self) -> f64 {
        let (rho_a, rho_b) = self.penalties;
        let epsilon = self.epsilon();
        let side = |got: &[f64], scaled: &[f64], weights: &[f64], rho: f64| {
            let f = unscaled(scaled, &logs(weights), epsilon);
            distance(got, &f, weights, rho)
        };
        let (f, g) = &self.solved.scaled;
        let (a, b) = &self.solved.weights;
        let rows = side(&self.solved.totals.rows, f, a, rho_a);
        larger(rows, side(&self.solved.totals.columns, g, b, rho_b))
    }

    /// Goes through the stages in type `T`.
    fn advance<T: Real>(&mut self, costs: &Costs<T>, stages: &[f64], tolerance: f64) -> End {
        let narrow = |x: &[f64]| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
        let (a, b) = &self.solved.weights;
        let (n, m) = (a.len(), b.len());
        let mut f = narrow(&self.solved.scaled.0);
        // Behind the end there is no mass.
        let mut g = Aligned::zeros(padded(m));
        g.fill(T::neg_infinity());
        g[..m].copy_from_slice(&narrow(&self.solved.scaled.1));
        let a = narrow(a);
        let mut b = narrow(b);
        b.resize(padded(m), T::zero());
        let mut end = End::Limit;
        for (stage, epsilon) in stages.iter().enumerate() {
            let rows = Side::new(a.clone(), self.penalties.0, *epsilon);
            let columns = Side::new(b.clone(), self.penalties.1, *epsilon);
            if stage > 0 {
                let ratio = T::of(stages[stage - 1] / epsilon);
                rescale(&mut f, &rows.logs, ratio);
                rescale(&mut g, &columns.logs, ratio);
            }
            let mut scaling = Scaling::new(costs, rows, columns, *epsilon);
            scaling.translate = self.settings.gradient != Gradient::Unrolled;
            let left = self
                .settings
                .stopping
                .max_iterations
                .saturating_sub(self.solved.iterations);
            let last = stage + 1 == stages.len();
            // Larger epsilons only prepare; one sweep is kept for the epsilon asked for.
            let (limit, within) = match last {
                true => (left, tolerance),
                false => (
                    STAGE_SWEEPS.min(left.saturating_sub(1)),
                    STAGE_TOLERANCE * self.mass,
                ),
            };
            let mut walk = Walk {
                scaling,
                f: &mut f,
                g: &mut g,
                columns: m,
                settings: self.settings,
                epsilon: *epsilon,
                iterations: &mut self.solved.iterations,
                tape: &mut self.solved.tape,
            };
            // Symmetric from the first sweep on: what is not symmetric falls slowest.
            walk.scaling.symmetric = self.settings.update == Update::Symmetric;
            end = match last {
                true => walk.finish(limit, within),
                false => walk.steady(limit, within),
            };
        }
        let wide = |x: &[T]| x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
        let inverse = T::of(std::f64::consts::LOG2_E / self.epsilon());
        self.solved.totals = Totals::of(costs, &f, &g[..m], inverse);
        self.solved.scaled = (wide(&f[..n]), wide(&g[..m]));
        end
    }
}

/// The L1 distance of a marginal from what its potential asks for, `a exp(-f / rho)`.
pub(super) fn distance(got: &[f64], f: &[f64], weights: &[f64], rho: f64) -> f64 {
    let each = got.iter().zip(f).zip(weights);
    each.map(|((got, f), w)| (got - w * (-f / rho).exp()).abs())
        .sum()
}

fn logs(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w.log2()).collect()
}

/// `F = f / (eps ln 2) + log2 a`.
fn scaled(potential: &[f64], weights: &[f64], epsilon: f64) -> Vec<f64> {
    let factor = std::f64::consts::LOG2_E / epsilon;
    potential
        .iter()
        .zip(weights)
        .map(|(f, w)| f * factor + w.log2())
        .collect()
}

/// F at another epsilon.
fn rescale<T: Real>(potential: &mut [T], logs: &[T], ratio: T) {
    for (v, log) in potential.iter_mut().zip(logs) {
        if log.is_finite() {
            *v = (*v - *log) * ratio + *log;
        }
    }
}
