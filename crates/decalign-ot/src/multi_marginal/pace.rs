//! How far each sweep goes.

/// Sweeps of a solve: relaxed as errors fall slowly.
///
/// Near the solution a sweep is a linear iteration on a positive semi-definite system, and going
/// further by a factor w below 2 still converges (Ostrowski, 1954). Its best value follows from the
/// rate at which errors fall (Young, 1971), which is that of two marginals, or of a forest, and a
/// guide elsewhere: when errors rise, plain sweeps come back. Source for transport: Thibault and
/// others (2021).
pub(super) struct Pace {
    relaxation: f64,
    /// The error at the last look.
    reference: f64,
    /// Sweeps until the next.
    until: usize,
    /// An error below which a plain sweep is tried; none yet.
    trial: f64,
}

/// Sweeps between looks at how fast errors fall.
const WINDOW: usize = 10;
/// Steps are not lengthened beyond this.
const LONGEST: f64 = 1.98;

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            relaxation: 1.0,
            reference: f64::INFINITY,
            until: WINDOW,
            trial: f64::INFINITY,
        }
    }

    /// Sweeps until a plain one finds an error of at most `goal`, or NaN, at most `limit` of them;
    /// the last is a plain one. Returns how many.
    pub(super) fn sweeps(
        &mut self,
        limit: usize,
        goal: f64,
        mut sweep: impl FnMut(f64) -> f64,
    ) -> usize {
        let mut done = 0;
        self.trial = goal.min(self.trial);
        while done < limit {
            let relaxation = if done + 1 == limit {
                1.0
            } else {
                self.relaxation
            };
            let error = sweep(relaxation);
            done += 1;
            if error.is_nan() || (relaxation == 1.0 && error <= goal) {
                break;
            }
            // A long step leaves an error of its own behind, which a plain one takes away.
            if relaxation > 1.0 && error * (2.0 - relaxation) <= self.trial && done + 1 < limit {
                done += 1;
                if sweep(1.0) <= goal {
                    break;
                }
                // It also takes the swing away: next time not so soon.
                self.trial *= 0.5;
            }
            self.look(error);
        }
        done
    }

    fn look(&mut self, error: f64) {
        self.until -= 1;
        if self.until > 0 {
            return;
        }
        self.until = WINDOW;
        let rate = (error / self.reference).powf(1.0 / WINDOW as f64);
        let next = longer(self.relaxation, rate);
        // Errors at one relaxation say nothing of those at another.
        self.reference = match next == self.relaxation {
            true => error,
            false => f64::INFINITY,
        };
        self.relaxation = next;
    }
}

/// The relaxation to go on with, after errors fell by `rate` a sweep at the present one.
///
/// The rate t of plain sweeps follows from `(rate + w - 1)^2 = rate w^2 t`, and
/// `2 / (1 + sqrt(1 - t))` is best.
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
