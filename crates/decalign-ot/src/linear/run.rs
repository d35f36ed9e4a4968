//! One problem, from its numbers to its potentials.

use decalign_core::{Real, Result};

use super::anderson::Anderson;
use super::cells::Totals;
use super::problem::LinearProblem;
use super::settings::{Acceleration, Gradient, Sinkhorn, Update};
use super::side::Side;
use super::sweep::Scaling;
use crate::geometry::{Costs, padded};

/// Costs above this many epsilons: f32 is not enough.
const SINGLE_LIMIT: f64 = 1e3;

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

/// The state after a sweep, in units of the cost.
pub(super) struct Step {
    pub(super) epsilon: f64,
    pub(super) relaxation: f64,
    pub(super) symmetric: bool,
    pub(super) f: Vec<f64>,
    pub(super) g: Vec<f64>,
}

/// Why an iteration ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Converged,
    Limit,
    /// The error no longer falls: rounding.
    Stalled,
}

/// A problem's weights and settings, in f64.
struct Solve<'a> {
    settings: &'a Sinkhorn,
    a: Vec<f64>,
    b: Vec<f64>,
    penalties: (f64, f64),
    mass: f64,
}

impl Run {
    /// Solves problem `i`, from potentials `start` where they are given.
    pub(super) fn new(
        settings: &Sinkhorn,
        problem: &LinearProblem,
        i: usize,
        start: Option<(Vec<f64>, Vec<f64>)>,
    ) -> Result<Self> {
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
                scaled: (
                    scaled(&f, &solve.a, settings.epsilon),
                    scaled(&g, &solve.b, settings.epsilon),
                ),
                iterations: 0,
                double: false,
                totals: Totals::default(),
                tape: vec![Step {
                    epsilon: settings.epsilon,
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
                    epsilon: settings.epsilon,
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
            if range <= SINGLE_LIMIT * settings.epsilon {
                let stages = solve.stages(if warm { 0.0 } else { range });
                if solve.advance(&costs, &stages, &mut run) != End::Stalled {
                    return Ok(run);
                }
                // Rounding in f32 is in the way: go on in f64 from here.
                run.double = true;
                solve.advance(
                    &problem.geometry.read::<f64>(i)?,
                    &[settings.epsilon],
                    &mut run,
                );
                return Ok(run);
            }
        }
        run.double = true;
        let costs = problem.geometry.read::<f64>(i)?;
        let stages = solve.stages(if warm { 0.0 } else { costs.range() });
        solve.advance(&costs, &stages, &mut run);
        Ok(run)
    }
}

impl Solve<'_> {
    /// The epsilons to solve at, the last being the one asked for.
    fn stages(&self, range: f64) -> Vec<f64> {
        let (epsilon, scaling) = (self.settings.epsilon, self.settings.scaling);
        let mut stages = vec![epsilon];
        if scaling < 1.0 && range.is_finite() && range > MILD * epsilon {
            while stages[stages.len() - 1] < range {
                stages.push(stages[stages.len() - 1] / scaling);
            }
        }
        stages.reverse();
        stages
    }

    /// Goes through the stages in type `T`.
    fn advance<T: Real>(&self, costs: &Costs<T>, stages: &[f64], run: &mut Run) -> End {
        let narrow = |x: &[f64]| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
        let (n, m) = (self.a.len(), self.b.len());
        let (mut f, mut g) = (narrow(&run.scaled.0), narrow(&run.scaled.1));
        g.resize(padded(m), T::neg_infinity());
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
            let left = self.settings.max_iterations.saturating_sub(run.iterations);
            let last = stage + 1 == stages.len();
            // Larger epsilons only prepare; one sweep is kept for the epsilon asked for.
            let (limit, tolerance) = match last {
                true => (left, self.settings.tolerance * self.mass),
                false => (
                    STAGE.min(left.saturating_sub(1)),
                    STAGE_TOLERANCE * self.mass,
                ),
            };
            let mut walk = Walk {
                scaling,
                f: &mut f,
                g: &mut g,
                run,
                solve: self,
                epsilon: *epsilon,
            };
            // Symmetric from the first sweep on: what is not symmetric falls slowest.
            walk.scaling.symmetric = self.settings.update == Update::Symmetric;
            end = match last {
                true => walk.to_the_end(limit, tolerance),
                false => walk.steady(limit, tolerance),
            };
        }
        let wide = |x: &[T]| x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
        let inverse = T::of(std::f64::consts::LOG2_E / self.settings.epsilon);
        run.totals = Totals::of(costs, &f, &g[..m], inverse);
        run.scaled = (wide(&f[..n]), wide(&g[..m]));
        end
    }
}

/// Sweeps at one epsilon.
struct Walk<'a, 'b, T> {
    scaling: Scaling<'b, T>,
    f: &'a mut Vec<T>,
    g: &'a mut Vec<T>,
    run: &'a mut Run,
    solve: &'a Solve<'a>,
    epsilon: f64,
}

impl<T: Real> Walk<'_, '_, T> {
    fn sweep(&mut self, relaxation: f64) -> f64 {
        self.scaling.relaxation = T::of(relaxation);
        let error = self.scaling.sweep(self.f, self.g);
        self.run.iterations += 1;
        if self.solve.settings.gradient == Gradient::Unrolled {
            self.run.tape.push(Step {
                epsilon: self.epsilon,
                relaxation,
                symmetric: self.scaling.symmetric,
                f: unscaled(self.f, &self.scaling.rows.logs, self.epsilon),
                g: unscaled(
                    &self.g[..self.solve.b.len()],
                    &self.scaling.columns.logs,
                    self.epsilon,
                ),
            });
        }
        error
    }

    fn to_the_end(&mut self, limit: usize, tolerance: f64) -> End {
        let settings = self.solve.settings;
        if self.scaling.symmetric {
            return self.steady(limit, tolerance);
        }
        match settings.acceleration {
            Acceleration::Plain => self.steady(limit, tolerance),
            Acceleration::Momentum(w) => self.relaxed(limit, tolerance, Some(w)),
            // Gradients of a few plain sweeps are what is asked for.
            Acceleration::Adaptive if settings.gradient == Gradient::Unrolled => {
                self.steady(limit, tolerance)
            }
            Acceleration::Adaptive => self.relaxed(limit, tolerance, None),
            Acceleration::Anderson(memory) => self.anderson(limit, tolerance, memory),
        }
    }

    /// Sweeps of one kind: whole steps, or half ones of both sides at once.
    fn steady(&mut self, limit: usize, tolerance: f64) -> End {
        let relaxation = if self.scaling.symmetric { 0.5 } else { 1.0 };
        let mut stall = Stall::default();
        for _ in 0..limit {
            let error = self.sweep(relaxation);
            if error <= tolerance {
                return End::Converged;
            }
            if stall.seen::<T>(error) {
                return End::Stalled;
            }
        }
        End::Limit
    }

    /// Steps lengthened by a fixed factor, or as errors fall slowly, see [`longer`]; the last sweep is
    /// a plain one.
    fn relaxed(&mut self, limit: usize, tolerance: f64, fixed: Option<f64>) -> End {
        let (mut reference, mut done) = (f64::INFINITY, 0);
        let (mut relaxation, mut look, mut trial) = (fixed.unwrap_or(1.0), WINDOW, tolerance);
        let mut stall = Stall::default();
        while done < limit {
            let error = self.sweep(if done + 1 == limit { 1.0 } else { relaxation });
            done += 1;
            // A long step leaves an error of its own behind, which a plain one takes away.
            if error * (2.0 - relaxation) <= trial && relaxation != 1.0 && done < limit {
                done += 1;
                if self.sweep(1.0) <= tolerance {
                    return End::Converged;
                }
                // It also takes the swing away: next time not so soon.
                trial *= 0.5;
            } else if error <= tolerance {
                return End::Converged;
            }
            if stall.seen::<T>(error) {
                return End::Stalled;
            }
            if fixed.is_none() && done >= look {
                look = done + WINDOW;
                let next = longer(relaxation, (error / reference).powf(1.0 / WINDOW as f64));
                // Errors at one relaxation say nothing of those at another.
                reference = if next == relaxation {
                    error
                } else {
                    f64::INFINITY
                };
                relaxation = next;
            }
        }
        End::Limit
    }

    fn anderson(&mut self, limit: usize, tolerance: f64, memory: usize) -> End {
        let m = self.solve.b.len();
        let mut mixing = Anderson::new(memory);
        let mut stall = Stall::default();
        let wide = |x: &[T]| x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
        for _ in 0..limit {
            let before = wide(&self.g[..m]);
            let error = self.sweep(1.0);
            if error <= tolerance {
                return End::Converged;
            }
            if stall.seen::<T>(error) {
                return End::Stalled;
            }
            let mixed = mixing.mix(before, wide(&self.g[..m]), error);
            for (g, v) in self.g.iter_mut().zip(mixed) {
                *g = T::of(v);
            }
        }
        End::Limit
    }
}

/// Notices in f32 that errors have stopped to fall.
#[derive(Default)]
struct Stall {
    best: Option<f64>,
    since: usize,
}

impl Stall {
    fn seen<T: Real>(&mut self, error: f64) -> bool {
        if size_of::<T>() > size_of::<f32>() {
            return false;
        }
        if self.best.is_none_or(|best| error < 0.9 * best) {
            self.best = Some(error);
            self.since = 0;
        }
        self.since += 1;
        self.since > PATIENCE
    }
}

/// The relaxation to go on with, after errors fell by `rate` a sweep at the present one.
///
/// Near the solution the sweep is successive overrelaxation of a linear iteration whose plain rate
/// t follows from `(rate + w - 1)^2 = rate w^2 t` (Young, 1971), and `2 / (1 + sqrt(1 - t))` is best.
/// When errors rise, plain sweeps come back. Source: Thibault and others (2021), overrelaxed
/// Sinkhorn.
fn longer(relaxation: f64, rate: f64) -> f64 {
    if rate.is_nan() || rate >= 1.0 {
        return 1.0;
    }
    let plain = (rate + relaxation - 1.0).powi(2) / (rate * relaxation * relaxation);
    match plain > 0.25 && plain < 1.0 {
        true => (2.0 / (1.0 + (1.0 - plain).sqrt())).clamp(relaxation, LONGEST),
        false => relaxation,
    }
}

/// Steps are not lengthened beyond this.
const LONGEST: f64 = 1.98;
/// Sweeps between looks at how fast errors fall.
const WINDOW: usize = 30;
/// Costs below this many epsilons need no preparation.
const MILD: f64 = 50.0;
/// Sweeps of a stage that prepares, at most.
const STAGE: usize = 10;
/// The error at which it ends.
const STAGE_TOLERANCE: f64 = 1e-2;
/// Sweeps in f32 without a tenth of progress before f64 takes over.
const PATIENCE: usize = 250;

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

/// `f`, 0 where there is no mass.
pub(super) fn unscaled<T: Real>(scaled: &[T], logs: &[T], epsilon: f64) -> Vec<f64> {
    let factor = epsilon * std::f64::consts::LN_2;
    let each = scaled
        .iter()
        .zip(logs)
        .map(|(v, log)| match log.is_finite() {
            true => factor * (v.as_f64() - log.as_f64()),
            false => 0.0,
        });
    each.collect()
}

/// F at another epsilon.
fn rescale<T: Real>(potential: &mut [T], logs: &[T], ratio: T) {
    for (v, log) in potential.iter_mut().zip(logs) {
        if log.is_finite() {
            *v = (*v - *log) * ratio + *log;
        }
    }
}
