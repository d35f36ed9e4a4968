//! Iteration rules of the entropic solvers: when a solve stops, which epsilons it passes through, and how far each sweep goes.
//!
//! | rule | type |
//! |---|---|
//! | stopping | [`Stopping`] |
//! | epsilon scaling | [`EpsilonSchedule`], [`Preparation`] |
//! | overrelaxation | [`Relaxation`] |
//! | Anderson acceleration | [`Anderson`] |
//! | stalled f32 sweeps | [`Stall`] |
//! | f32 or f64 | [`fits_f32`], [`solving_dtype`] |

mod anderson;

pub(crate) use anderson::Anderson;

use candle_core::DType;
use decalign_core::device::Backend;
use decalign_core::{Error, Real, Result};

use crate::validate::{at_least_one, positive};

/// Costs that span at most this many epsilons are solved at epsilon from the start: `exp(-50)` is far above the least f32, so that
/// no row of the kernel underflows. Linear and barycentre solvers, and their kernels.
pub(crate) const UNSCALED_RANGE: f64 = 50.0;
/// As [`UNSCALED_RANGE`] for joint costs, whose range is bounded by the sum of the ranges of all pairs. That bound is seldom
/// reached, and a sweep over a joint tensor costs more than the stages save below it.
pub(crate) const UNSCALED_JOINT_RANGE: f64 = 200.0;
/// Sweeps at an epsilon larger than the one asked for, at most: such a stage only has to give the next one a start.
pub(crate) const STAGE_SWEEPS: usize = 10;
/// Marginal error, relative to the mass, at which such a stage ends early.
pub(crate) const STAGE_TOLERANCE: f64 = 1e-2;
/// [`STAGE_SWEEPS`] on devices, where no error is read between stages because the host would wait for it.
pub(crate) const DEVICE_STAGE_SWEEPS: usize = 2;
/// Sweeps between two readings of the error of a solve on a device.
pub(crate) const DEVICE_CHECK_INTERVAL: usize = 10;

/// Sweeps between two estimates of the convergence rate of linear problems.
pub(crate) const RATE_WINDOW: usize = 30;
/// As [`RATE_WINDOW`] for more marginals, whose sweeps are fewer and dearer.
pub(crate) const JOINT_RATE_WINDOW: usize = 10;
/// Largest relaxation; successive overrelaxation diverges at 2.
const MAX_RELAXATION: f64 = 1.98;
/// A plain rate below this is fast enough without overrelaxation.
const FAST_RATE: f64 = 0.25;
/// The error required before the next plain sweep is this part of that before the last: a plain sweep damps the oscillation of
/// overrelaxed ones, so that an early one is wasted.
const TRIAL_REDUCTION: f64 = 0.5;

/// Maximum restarts of a linear solve while its plan still violates the tolerance.
pub(crate) const MAX_RESTARTS: usize = 6;
/// Factor by which a restart lowers the error that sweeps must reach.
pub(crate) const RESTART_REDUCTION: f64 = 0.3;
/// As [`RESTART_REDUCTION`] for joint problems and devices, which restart until their sweeps are used up.
pub(crate) const GENTLE_RESTART_REDUCTION: f64 = 0.5;

/// f32 sweeps without progress after which f64 takes over.
const STALL_SWEEPS: usize = 250;
/// An error below this part of the best so far is progress.
const STALL_PROGRESS: f64 = 0.9;

/// f32 has 7 digits: with costs beyond this many epsilons (or epsilons beyond this many costs) fewer than 4 are left for the smaller.
const F32_RANGE: f64 = 1e3;
/// Relative marginal errors below this are beyond sums of f32.
const F32_TOLERANCE: f64 = 2e-6;

/// Largest epsilon scaling below 1: the number of stages, `log(range / eps) / log(1 / scaling)`, grows without bound towards 1.
const MAX_SCALING: f64 = 0.9;

/// When an iteration ends: at a tolerance or at a number of iterations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stopping {
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: usize,
}

impl Stopping {
    /// Default limits of a solver, which are valid.
    pub(crate) const fn new(tolerance: f64, max_iterations: usize) -> Self {
        Self {
            tolerance,
            max_iterations,
        }
    }

    /// Checks and sets the tolerance.
    pub(crate) fn set_tolerance(&mut self, tolerance: f64) -> Result<()> {
        positive("tolerance", tolerance)?;
        self.tolerance = tolerance;
        Ok(())
    }

    /// Checks and sets the number of iterations.
    pub(crate) fn set_max_iterations(&mut self, max_iterations: usize) -> Result<()> {
        at_least_one("max_iterations", max_iterations)?;
        self.max_iterations = max_iterations;
        Ok(())
    }
}

/// Adds the setters that all iterative solvers share to a type with a field `stopping: Stopping`, documented by the two texts.
macro_rules! stopping_settings {
    ($solver:ty, $tolerance:literal, $max_iterations:literal) => {
        impl $solver {
            #[doc = $tolerance]
            ///
            /// # Errors
            /// When `tolerance` is not positive and finite.
            pub fn tolerance(mut self, tolerance: f64) -> decalign_core::Result<Self> {
                self.stopping.set_tolerance(tolerance)?;
                Ok(self)
            }

            #[doc = $max_iterations]
            ///
            /// # Errors
            /// When `max_iterations` is 0.
            pub fn max_iterations(mut self, max_iterations: usize) -> decalign_core::Result<Self> {
                self.stopping.set_max_iterations(max_iterations)?;
                Ok(self)
            }
        }
    };
}
pub(crate) use stopping_settings;

/// The regularisation, and how a solve comes down to it from larger ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EpsilonSchedule {
    pub(crate) epsilon: f64,
    /// Factor from one stage to the next, 1 for a solve at one epsilon.
    pub(crate) scaling: f64,
}

impl EpsilonSchedule {
    /// Halves epsilon from stage to stage.
    pub(crate) fn new(epsilon: f64) -> Result<Self> {
        positive("epsilon", epsilon)?;
        Ok(Self {
            epsilon,
            scaling: 0.5,
        })
    }

    /// Checks and sets the factor between stages.
    pub(crate) fn set_scaling(&mut self, scaling: f64) -> Result<()> {
        let valid = scaling > 0.0 && (scaling <= MAX_SCALING || scaling == 1.0);
        if !valid {
            let remedy = "must be in (0, 0.9], or 1 for a solve at one epsilon";
            return Err(Error::value("epsilon scaling", scaling, remedy));
        }
        self.scaling = scaling;
        Ok(())
    }

    /// The epsilons to solve at for costs of this range, from above the range down to the epsilon asked for, which is last. Ranges of at
    /// most `unscaled` epsilons have one stage.
    pub(crate) fn stages(&self, range: f64, unscaled: f64) -> Vec<f64> {
        let mut stages = vec![self.epsilon];
        if self.scaling < 1.0 && range.is_finite() && range > unscaled * self.epsilon {
            while stages[stages.len() - 1] < range {
                stages.push(stages[stages.len() - 1] / self.scaling);
            }
        }
        stages.reverse();
        stages
    }
}

/// Overrelaxation of sweeps, fixed or adapted to the rate at which errors fall.
///
/// Near the solution a sweep is a linear iteration, and a step longer by a factor w below 2 still converges (Ostrowski, 1954). The
/// best w follows from the rate t of plain sweeps, `2 / (1 + sqrt(1 - t))`, and t from the rate seen at the present w,
/// `(rate + w - 1)^2 = rate w^2 t` (Young, 1971). This is exact for two marginals and for forests, and a guide elsewhere. When errors
/// rise, plain sweeps come back. Source: Thibault and others (2021), overrelaxed Sinkhorn.
pub(crate) struct Relaxation {
    factor: f64,
    /// Sweeps of one estimate of the rate; 0 where the factor is fixed.
    window: usize,
    /// Sweeps until the next estimate.
    until: usize,
    /// The error at the last estimate; infinite after a change of the factor, as errors at two factors do not compare.
    reference: f64,
    /// An error below which a plain sweep is tried.
    trial: f64,
}

impl Relaxation {
    /// Plain sweeps at first, lengthened by the rate over `window` sweeps.
    pub(crate) fn adaptive(window: usize) -> Self {
        Self {
            factor: 1.0,
            window,
            until: window,
            reference: f64::INFINITY,
            trial: f64::INFINITY,
        }
    }

    /// Uses one factor for all sweeps.
    pub(crate) fn fixed(factor: f64) -> Self {
        Self {
            factor,
            window: 0,
            ..Self::adaptive(0)
        }
    }

    /// The factor of the next step.
    pub(crate) fn factor(&self) -> f64 {
        self.factor
    }

    /// Sweeps must now reach this error: a plain sweep is tried where it is in sight.
    pub(crate) fn aim(&mut self, goal: f64) {
        self.trial = goal.min(self.trial);
    }

    /// Whether a plain sweep may end the solve. A relaxed step leaves an error that a plain one removes.
    pub(crate) fn plain_is_due(&self, error: f64) -> bool {
        self.factor != 1.0 && error * (2.0 - self.factor) <= self.trial
    }

    /// The plain sweep did not end the solve.
    pub(crate) fn plain_failed(&mut self) {
        self.trial *= TRIAL_REDUCTION;
    }

    /// Takes note of the error after `sweeps` more sweeps, and adapts the factor once a window.
    pub(crate) fn observe(&mut self, error: f64, sweeps: usize) {
        self.until = self.until.saturating_sub(sweeps);
        if self.window == 0 || self.until > 0 {
            return;
        }
        self.until = self.window;
        let rate = (error / self.reference).powf(1.0 / self.window as f64);
        let next = adapted(self.factor, rate);
        self.reference = match next == self.factor {
            true => error,
            false => f64::INFINITY,
        };
        self.factor = next;
    }
}

/// The factor to go on with, after errors fell by `rate` a sweep at the present one.
fn adapted(factor: f64, rate: f64) -> f64 {
    if rate.is_nan() || rate >= 1.0 {
        return 1.0;
    }
    let plain = (rate + factor - 1.0).powi(2) / (rate * factor * factor);
    match plain > FAST_RATE && plain < 1.0 {
        true => (2.0 / (1.0 + (1.0 - plain).sqrt())).clamp(factor, MAX_RELAXATION),
        false => factor,
    }
}

/// Notices that the errors of f32 sweeps have stopped falling.
#[derive(Default)]
pub(crate) struct Stall {
    best: Option<f64>,
    since: usize,
}

impl Stall {
    /// Takes note of an error; true after too many sweeps without progress. Never of f64 sweeps.
    pub(crate) fn observe<T: Real>(&mut self, error: f64) -> bool {
        if size_of::<T>() > size_of::<f32>() {
            return false;
        }
        if self.best.is_none_or(|best| error < STALL_PROGRESS * best) {
            self.best = Some(error);
            self.since = 0;
        }
        self.since += 1;
        self.since > STALL_SWEEPS
    }
}

/// Whether f32 expresses potentials to a part of epsilon and values to a part of the costs, and neither overflows.
pub(crate) fn fits_f32(range: f64, epsilon: f64, mass: f64) -> bool {
    range <= F32_RANGE * epsilon
        && (range == 0.0 || epsilon <= F32_RANGE * range)
        && (1e-30..1e30).contains(&epsilon)
        && (range == 0.0 || range > 1e-30)
        && (1e-25..1e25).contains(&mass)
}

/// As [`fits_f32`], for costs that span `range` epsilons on a device.
pub(crate) fn range_fits_f32(range: f64) -> bool {
    range == 0.0 || (1.0 / F32_RANGE..=F32_RANGE).contains(&range)
}

/// The type that a device solves in: f64 where the tolerance asks for it, but on Metal, which has only f32.
pub(crate) fn solving_dtype(backend: &Backend, dtype: DType, tolerance: f64) -> DType {
    match tolerance < F32_TOLERANCE && !backend.device().is_metal() {
        true => DType::F64,
        false => dtype,
    }
}
