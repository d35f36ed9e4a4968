//! Sweeps at one epsilon, and how their steps are lengthened.

use decalign_core::Real;

use super::anderson::Anderson;
use super::options::{Acceleration, Gradient, Settings};
use super::sweep::Scaling;

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
pub(super) enum End {
    Converged,
    Limit,
    /// The error no longer falls: rounding.
    Stalled,
}

/// Sweeps at one epsilon.
pub(super) struct Walk<'a, 'b, T> {
    pub(super) scaling: Scaling<'b, T>,
    pub(super) f: &'a mut [T],
    pub(super) g: &'a mut [T],
    /// How many columns there are, without what is behind the end.
    pub(super) columns: usize,
    pub(super) settings: &'a Settings,
    pub(super) epsilon: f64,
    /// Counts every sweep.
    pub(super) iterations: &'a mut usize,
    pub(super) tape: &'a mut Vec<Step>,
}

impl<T: Real> Walk<'_, '_, T> {
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

    pub(super) fn finish(&mut self, limit: usize, tolerance: f64) -> End {
        let settings = self.settings;
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
    pub(super) fn steady(&mut self, limit: usize, tolerance: f64) -> End {
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
            if stall.seen::<T>(error) {
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
/// Sweeps in f32 without a tenth of progress before f64 takes over.
const PATIENCE: usize = 250;

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
