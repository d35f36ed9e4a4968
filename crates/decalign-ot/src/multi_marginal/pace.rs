//! The relaxation of every sweep of a solve.

use crate::schedule::{JOINT_RATE_WINDOW, Relaxation};

/// Sweeps of a solve, relaxed where errors fall slowly.
pub(super) struct Pace(Relaxation);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Relaxation::adaptive(JOINT_RATE_WINDOW))
    }

    /// Sweeps until a plain one finds an error of at most `goal`, or NaN, at most `limit` of them; the last is a plain
    /// one. Returns the number of sweeps.
    pub(super) fn sweeps(
        &mut self,
        limit: usize,
        goal: f64,
        mut sweep: impl FnMut(f64) -> f64,
    ) -> usize {
        let mut done = 0;
        self.0.aim(goal);
        while done < limit {
            let relaxation = match done + 1 == limit {
                true => 1.0,
                false => self.0.factor(),
            };
            let error = sweep(relaxation);
            done += 1;
            if error.is_nan() || (relaxation == 1.0 && error <= goal) {
                break;
            }
            if relaxation > 1.0 && self.0.plain_is_due(error) && done + 1 < limit {
                done += 1;
                if sweep(1.0) <= goal {
                    break;
                }
                self.0.plain_failed();
            }
            self.0.observe(error, 1);
        }
        done
    }
}
