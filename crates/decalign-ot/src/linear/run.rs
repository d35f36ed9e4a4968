//! One problem, from its numbers to its potentials.

use decalign_core::simd::Aligned;
use decalign_core::{Real, Result};

use super::cells::Totals;
use super::options::{Gradient, Settings, Update};
use super::problem::LinearProblem;
use super::side::Side;
use super::sweep::Scaling;
use super::walk::{End, Step, Walk, unscaled};
use crate::geometry::{Costs, padded};
use crate::schedule::{
    MAX_RESTARTS, RESTART_REDUCTION, STAGE_SWEEPS, STAGE_TOLERANCE, UNSCALED_RANGE, fits_f32,
};
use crate::validate::larger;

/// Where a solve has come to.
pub(super) struct Run {
    /// `F = f / (eps ln 2) + log2 a`, and G.
    pub(super) scaled: (Vec<f64>, Vec<f64>),
    pub(super) iterations: usize,
    /// Whether cells are computed in f64.
    pub(super) double: bool,
    /// Of the last plan.
    pub(super) totals: Totals,
    /// Every sweep, where gradients go back through them.
    pub(super) tape: Vec<Step>,
}

/// A problem's weights and settings, in f64.
struct Solve<'a> {
    settings: &'a Settings,
    a: Vec<f64>,
    b: Vec<f64>,
    penalties: (f64, f64),
    mass: f64,
}

impl Run {
    /// Solves problem `i`, from potentials `start` where they are given.
    pub(super) fn new(
        settings: &Settings,
        problem: &LinearProblem,
        i: usize,
        start: Option<(Vec<f64>, Vec<f64>)>,
    ) -> Result<Self> {
        let epsilon = settings.schedule.epsilon;
        let (a, b) = problem.weights(i)?;
        let mass = a.iter().sum::<f64>().max(b.iter().sum());
        let solve = Solve {
            settings,
            a,
            b,
            penalties: problem.penalties,
            mass,
        };
        let single = problem.geometry.dtype() == candle_core::DType::F32;
        let mut run = match start {
            Some((f, g)) => Self {
                scaled: (scaled(&f, &solve.a, epsilon), scaled(&g, &solve.b, epsilon)),
                iterations: 0,
                double: false,
                totals: Totals::default(),
                tape: vec![Step {
                    epsilon,
                    relaxation: 1.0,
                    symmetric: false,
                    f,
                    g,
                }],
            },
            None => Self {
                scaled: (logs(&solve.a), logs(&solve.b)),
                iterations: 0,
                double: false,
                totals: Totals::default(),
                tape: vec![Step {
                    epsilon,
                    relaxation: 1.0,
                    symmetric: false,
                    f: vec![0.0; solve.a.len()],
                    g: vec![0.0; solve.b.len()],
                }],
            },
        };
        let warm = run.tape[0]
            .f
            .iter()
            .chain(&run.tape[0].g)
            .any(|v| *v != 0.0);
        if single {
            let costs = problem.geometry.read::<f32>(i)?;
            let range = costs.range();
            if fits_f32(range, epsilon, solve.mass) {
                let stages = settings
                    .schedule
                    .stages(if warm { 0.0 } else { range }, UNSCALED_RANGE);
                let end = solve.advance(&costs, &stages, solve.target(), &mut run);
                if end == End::Limit || solve.error(&run) <= solve.target() {
                    return Ok(run);
                }
                // Rounding in f32 is in the way: go on in f64 from here.
                run.double = true;
                let costs = problem.geometry.read::<f64>(i)?;
                solve.settle(&costs, &[epsilon], &mut run);
                return Ok(run);
            }
        }
        run.double = true;
        let costs = problem.geometry.read::<f64>(i)?;
        let stages = settings
            .schedule
            .stages(if warm { 0.0 } else { costs.range() }, UNSCALED_RANGE);
        solve.settle(&costs, &stages, &mut run);
        Ok(run)
    }
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
    fn settle(&self, costs: &Costs<f64>, stages: &[f64], run: &mut Run) {
        let mut tolerance = self.target();
        let mut end = self.advance(costs, stages, tolerance, run);
        for _ in 0..MAX_RESTARTS {
            if end != End::Converged || self.error(run) <= self.target() {
                return;
            }
            tolerance *= RESTART_REDUCTION;
            end = self.advance(costs, &[self.epsilon()], tolerance, run);
        }
    }

    /// The larger L1 error of the last plan's marginals.
    fn error(&self, run: &Run) -> f64 {
        let (rho_a, rho_b) = self.penalties;
        let epsilon = self.epsilon();
        let side = |got: &[f64], scaled: &[f64], weights: &[f64], rho: f64| {
            let f = unscaled(scaled, &logs(weights), epsilon);
            distance(got, &f, weights, rho)
        };
        let (f, g) = &run.scaled;
        let rows = side(&run.totals.rows, f, &self.a, rho_a);
        larger(rows, side(&run.totals.columns, g, &self.b, rho_b))
    }

    /// Goes through the stages in type `T`.
    fn advance<T: Real>(
        &self,
        costs: &Costs<T>,
        stages: &[f64],
        tolerance: f64,
        run: &mut Run,
    ) -> End {
        let narrow = |x: &[f64]| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
        let (n, m) = (self.a.len(), self.b.len());
        let mut f = narrow(&run.scaled.0);
        // Behind the end there is no mass.
        let mut g = Aligned::zeros(padded(m));
        g.fill(T::neg_infinity());
        g[..m].copy_from_slice(&narrow(&run.scaled.1));
        let mut b = narrow(&self.b);
        b.resize(padded(m), T::zero());
        let mut end = End::Limit;
        for (stage, epsilon) in stages.iter().enumerate() {
            let rows = Side::new(narrow(&self.a), self.penalties.0, *epsilon);
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
                .saturating_sub(run.iterations);
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
                iterations: &mut run.iterations,
                tape: &mut run.tape,
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
        run.totals = Totals::of(costs, &f, &g[..m], inverse);
        run.scaled = (wide(&f[..n]), wide(&g[..m]));
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
