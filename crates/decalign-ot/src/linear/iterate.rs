//! Sweeps at one epsilon, and how their steps are lengthened.

use decalign_core::Real;

use super::settings::{Acceleration, Gradient, Settings};
use super::sweep::Scaling;
use crate::schedule::{Anderson, RATE_WINDOW, Relaxation, Stall};

/// The state after a sweep, in units of the cost.
#[derive(Debug)]
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
            Acceleration::Momentum(w) => self.relaxed(limit, tolerance, Relaxation::fixed(w)),
            // Gradients of a few plain sweeps are what is asked for.
            Acceleration::Adaptive if settings.gradient == Gradient::Unrolled => {
                self.steady(limit, tolerance)
            }
            Acceleration::Adaptive => {
                self.relaxed(limit, tolerance, Relaxation::adaptive(RATE_WINDOW))
            }
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
            if stall.observe::<T>(error) {
                return End::Stalled;
            }
        }
        End::Limit
    }

    /// Steps lengthened by a relaxation; the last sweep is a plain one.
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
