//! Solves one problem: precision, restarts, stages of epsilon, and the sweeps of a stage.

use candle_core::DType;
use decalign_core::simd::Aligned;
use decalign_core::{Real, Result};

use super::marginal::{Side, Totals, logs, scaled, unscaled};
use super::problem::{Gradient, LinearProblem, Precision, SolvedProblem, Step};
use super::sweep::Scaling;
use crate::geometry::{Costs, padded};
use crate::schedule::{
    Anderson, EpsilonSchedule, MAX_RESTARTS, RATE_WINDOW, RESTART_REDUCTION, Relaxation,
    STAGE_SWEEPS, STAGE_TOLERANCE, Stall, Stopping, UNSCALED_RANGE, fits_f32,
};

/// Settings of Sinkhorn's iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) schedule: EpsilonSchedule,
    pub(super) stopping: Stopping,
    pub(super) acceleration: Acceleration,
    pub(super) update: Update,
    pub(super) gradient: Gradient,
}

/// How steps are lengthened to converge in fewer sweeps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Acceleration {
    /// Not at all.
    Plain,
    /// By a fixed factor between 0 and 2: successive overrelaxation.
    Momentum(f64),
    /// By a factor that follows from how fast errors fall.
    #[default]
    Adaptive,
    /// By Anderson's mixing of so many last iterates.
    Anderson(usize),
}

/// In which order the two sides are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// One after the other, each from the other's newest potential.
    #[default]
    Alternating,
    /// Both at once, half a step each: the potentials of a problem with symmetric costs and equal
    /// weights stay equal, and converge in a few sweeps.
    Symmetric,
}

/// Why an iteration ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Converged,
    Limit,
    /// Rounding keeps the error from falling.
    Stalled,
}

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

    /// Goes through the stages, then restarts while the plan's own marginals violate the tolerance: a sweep measures its error before
    /// the last step, which can be a little smaller.
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

    /// The larger L1 error of the plan's own marginals.
    fn error(&self) -> f64 {
        let ((f, g), (a, b)) = (&self.solved.scaled, &self.solved.weights);
        let epsilon = self.epsilon();
        let (f, g) = (
            unscaled(f, &logs(a), epsilon),
            unscaled(g, &logs(b), epsilon),
        );
        self.solved.totals.error((&f, &g), (a, b), self.penalties)
    }

    /// Goes through the stages in type `T`.
    fn advance<T: Real>(&mut self, costs: &Costs<T>, stages: &[f64], tolerance: f64) -> End {
        let narrow = |x: &[f64]| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
        let (a, b) = &self.solved.weights;
        let (n, m) = (a.len(), b.len());
        let mut f = narrow(&self.solved.scaled.0);
        // The padding has no mass.
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
            // Stages at larger epsilons only give a start; one sweep is kept for the last.
            let (limit, within) = match last {
                true => (left, tolerance),
                false => (
                    STAGE_SWEEPS.min(left.saturating_sub(1)),
                    STAGE_TOLERANCE * self.mass,
                ),
            };
            // Symmetric from the first sweep on: the antisymmetric part of the error falls slowest.
            scaling.symmetric = self.settings.update == Update::Symmetric;
            let mut stage = Stage {
                scaling,
                f: &mut f,
                g: &mut g,
                columns: m,
                settings: self.settings,
                epsilon: *epsilon,
                iterations: &mut self.solved.iterations,
                tape: &mut self.solved.tape,
            };
            end = match last {
                true => stage.accelerated(limit, within),
                false => stage.plain(limit, within),
            };
        }
        let wide = |x: &[T]| x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
        let inverse = T::of(std::f64::consts::LOG2_E / self.epsilon());
        self.solved.totals = Totals::of(costs, &f, &g[..m], inverse);
        self.solved.scaled = (wide(&f[..n]), wide(&g[..m]));
        end
    }
}

/// Converts F to an epsilon smaller by `ratio`.
fn rescale<T: Real>(potential: &mut [T], logs: &[T], ratio: T) {
    for (v, log) in potential.iter_mut().zip(logs) {
        if log.is_finite() {
            *v = (*v - *log) * ratio + *log;
        }
    }
}

/// Sweeps at one epsilon.
struct Stage<'a, 'b, T> {
    scaling: Scaling<'b, T>,
    f: &'a mut [T],
    g: &'a mut [T],
    /// The number of columns without padding.
    columns: usize,
    settings: &'a Settings,
    epsilon: f64,
    /// Sweeps of the whole solve.
    iterations: &'a mut usize,
    tape: &'a mut Vec<Step>,
}

impl<T: Real> Stage<'_, '_, T> {
    fn sweep(&mut self, relaxation: f64) -> f64 {
        self.scaling.relaxation = T::of(relaxation);
        let error = self.scaling.sweep(self.f, self.g);
        *self.iterations += 1;
        if self.settings.gradient == Gradient::Unrolled {
            self.tape.push(Step {
                epsilon: self.epsilon,
                relaxation,
                symmetric: self.scaling.symmetric,
                f: unscaled(self.f, &self.scaling.rows.logs, self.epsilon),
                g: unscaled(
                    &self.g[..self.columns],
                    &self.scaling.columns.logs,
                    self.epsilon,
                ),
            });
        }
        error
    }

    /// Sweeps with the acceleration of the settings.
    fn accelerated(&mut self, limit: usize, tolerance: f64) -> End {
        let settings = self.settings;
        if self.scaling.symmetric {
            return self.plain(limit, tolerance);
        }
        match settings.acceleration {
            Acceleration::Plain => self.plain(limit, tolerance),
            Acceleration::Momentum(w) => self.relaxed(limit, tolerance, Relaxation::fixed(w)),
            // The backward pass through the sweeps holds their factors fixed, which adaptive ones are not.
            Acceleration::Adaptive if settings.gradient == Gradient::Unrolled => {
                self.plain(limit, tolerance)
            }
            Acceleration::Adaptive => {
                self.relaxed(limit, tolerance, Relaxation::adaptive(RATE_WINDOW))
            }
            Acceleration::Anderson(memory) => self.anderson(limit, tolerance, memory),
        }
    }

    /// Sweeps without acceleration: whole steps, or half steps of both sides at once.
    fn plain(&mut self, limit: usize, tolerance: f64) -> End {
        let relaxation = if self.scaling.symmetric { 0.5 } else { 1.0 };
        let mut stall = Stall::default();
        for _ in 0..limit {
            let error = self.sweep(relaxation);
            if error <= tolerance {
                return End::Converged;
            }
            if stall.observe::<T>(error) {
                return End::Stalled;
            }
        }
        End::Limit
    }

    /// Overrelaxed sweeps; the last one is plain.
    fn relaxed(&mut self, limit: usize, tolerance: f64, mut relaxation: Relaxation) -> End {
        relaxation.aim(tolerance);
        let (mut done, mut stall) = (0, Stall::default());
        while done < limit {
            let before = done;
            let factor = relaxation.factor();
            let error = self.sweep(if done + 1 == limit { 1.0 } else { factor });
            done += 1;
            if relaxation.plain_is_due(error) && done < limit {
                done += 1;
                if self.sweep(1.0) <= tolerance {
                    return End::Converged;
                }
                relaxation.plain_failed();
            } else if error <= tolerance {
                return End::Converged;
            }
            if stall.observe::<T>(error) {
                return End::Stalled;
            }
            relaxation.observe(error, done - before);
        }
        End::Limit
    }

    fn anderson(&mut self, limit: usize, tolerance: f64, memory: usize) -> End {
        let m = self.columns;
        let mut mixing = Anderson::new(memory);
        let mut stall = Stall::default();
        let wide = |x: &[T]| x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
        for _ in 0..limit {
            let before = wide(&self.g[..m]);
            let error = self.sweep(1.0);
            if error <= tolerance {
                return End::Converged;
            }
            if stall.observe::<T>(error) {
                return End::Stalled;
            }
            let mixed = mixing.mix(before, wide(&self.g[..m]), error);
            for (g, v) in self.g.iter_mut().zip(mixed) {
                *g = T::of(v);
            }
            self.scaling.forget();
        }
        End::Limit
    }
}
