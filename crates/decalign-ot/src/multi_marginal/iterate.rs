//! The iteration of one problem: epsilon stages, relaxed sweeps, and the checks between them.

use decalign_core::Real;

use super::MultiMarginalSinkhorn;
use super::inputs::BatchInputs;
use super::problem::MultiMarginalProblem;
use super::solution::Solved;
use super::state::{CostTables, Evaluation, SinkhornState, convert, greatest, least};
use crate::schedule::{
    GENTLE_RESTART_REDUCTION, JOINT_RATE_WINDOW, Relaxation, STAGE_SWEEPS, STAGE_TOLERANCE,
    UNSCALED_JOINT_RANGE,
};

/// The magnitudes of the numbers of a problem.
pub(super) struct Scale {
    /// A bound on `max C - min C`.
    pub(super) range: f64,
    /// A bound on `|C|`.
    largest: f64,
    /// Minus the logarithm of the least probability of a joint point under independent marginals.
    surprisal: f64,
}

impl Scale {
    /// True if f32 potentials can express marginals within the tolerance.
    pub(super) fn fits_f32(&self, settings: &MultiMarginalSinkhorn) -> bool {
        let rounding = 4.0 * f64::from(f32::EPSILON);
        rounding * (self.largest / settings.schedule.epsilon).max(4.0)
            <= settings.stopping.tolerance
            && self.surprisal < 60.0
    }

    pub(super) fn of<D: Real>(inputs: &BatchInputs<D>, b: usize) -> Self {
        let (mut range, mut largest, mut surprisal) = (0.0, 0.0, 0.0);
        for cost in inputs.costs(b) {
            let (mut low, mut high) = (D::infinity(), D::neg_infinity());
            for c in cost {
                low = least(low, *c);
                high = greatest(high, *c);
            }
            range += high.as_f64() - low.as_f64();
            largest += low.as_f64().abs().max(high.as_f64().abs());
        }
        for weights in inputs.marginals(b) {
            let (mut smallest, mut total) = (f64::INFINITY, 0.0);
            for w in weights.iter().map(|w| w.as_f64()).filter(|w| *w > 0.0) {
                smallest = least(smallest, w);
                total += w;
            }
            surprisal += (total / smallest).ln();
        }
        Self {
            range,
            largest,
            surprisal,
        }
    }
}

/// The solve of one problem of a batch.
pub(super) struct ProblemSolve<'a, D> {
    pub(super) settings: &'a MultiMarginalSinkhorn,
    pub(super) problem: &'a MultiMarginalProblem,
    pub(super) inputs: &'a BatchInputs<D>,
    pub(super) b: usize,
    pub(super) range: f64,
    pub(super) start: Option<Vec<Vec<f64>>>,
}

impl<D: Real> ProblemSolve<'_, D> {
    pub(super) fn run<T: Real>(&self, tables: Option<&CostTables<T>>) -> Solved<D> {
        let own;
        let tables = match tables {
            Some(shared) => shared,
            None => {
                own = CostTables::<T>::new(self.problem, &self.inputs.costs(self.b));
                &own
            }
        };
        let weights: Vec<Vec<T>> = self.inputs.marginals(self.b).map(convert).collect();
        let mut state = tables.state(self.problem, &weights);
        let (iterations, evaluation) = self.iterate(state.as_mut(), &weights);
        let settings = self.settings;
        let ended = (
            iterations,
            settings.schedule.epsilon,
            settings.stopping.tolerance,
        );
        Solved::new(state.potentials(), &weights, evaluation, ended)
    }

    /// Sweeps until the plan's marginals are within the tolerance; returns the number of sweeps.
    fn iterate<T: Real>(
        &self,
        state: &mut dyn SinkhornState<T>,
        weights: &[Vec<T>],
    ) -> (usize, Evaluation<T>) {
        let (schedule, stopping) = (self.settings.schedule, self.settings.stopping);
        let mass: f64 = weights[0].iter().map(|v| v.as_f64()).sum();
        let stages = match self.start {
            Some(_) => vec![schedule.epsilon],
            None => schedule.stages(self.range, UNSCALED_JOINT_RANGE),
        };
        state.start(stages[0], self.start.as_deref());
        // Larger epsilons only prepare: half of the sweeps are kept for the last one.
        let reserved = stopping.max_iterations.div_ceil(2);
        let mut left = stopping.max_iterations;
        for next in &stages[1..] {
            for _ in 0..STAGE_SWEEPS.min(left.saturating_sub(reserved)) {
                left -= 1;
                if state.sweep(1.0) <= STAGE_TOLERANCE * mass {
                    break;
                }
            }
            state.set_epsilon(*next);
        }
        // A sweep returns errors before its updates, each of which disturbs the other marginals a little. The error of
        // the plan itself decides; where it is too large the sweeps go on to a smaller error of their own.
        let limit = stopping.tolerance * mass;
        let mut goal = limit;
        let mut relaxation = Relaxation::adaptive(JOINT_RATE_WINDOW);
        loop {
            left -= relaxed_sweeps(&mut relaxation, left, goal, |factor| state.sweep(factor));
            let evaluation = state.evaluate(self.problem.is_tracked());
            let error = evaluation.error(weights);
            if error <= limit || error.is_nan() || left == 0 {
                return (stopping.max_iterations - left, evaluation);
            }
            goal *= GENTLE_RESTART_REDUCTION;
        }
    }
}

/// Sweeps until a plain one finds an error of at most `goal`, or NaN, at most `limit` times; the last sweep is plain.
/// Returns the number of sweeps.
fn relaxed_sweeps(
    relaxation: &mut Relaxation,
    limit: usize,
    goal: f64,
    mut sweep: impl FnMut(f64) -> f64,
) -> usize {
    let mut done = 0;
    relaxation.aim(goal);
    while done < limit {
        let factor = if done + 1 == limit {
            1.0
        } else {
            relaxation.factor()
        };
        let error = sweep(factor);
        done += 1;
        if error.is_nan() || (factor == 1.0 && error <= goal) {
            break;
        }
        if done + 1 < limit && relaxation.plain_is_due(error) {
            done += 1;
            if sweep(1.0) <= goal {
                break;
            }
            relaxation.plain_failed();
        }
        relaxation.observe(error, 1);
    }
    done
}
