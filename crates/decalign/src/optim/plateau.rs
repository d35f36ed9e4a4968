//! What a validation metric decides: the learning rate, and when to stop.

use serde::{Deserialize, Serialize};

use crate::metrics::Goal;

/// Multiplies the learning rate by `factor` when a metric has not improved for more than
/// `patience` epochs, as PyTorch's `ReduceLROnPlateau` with its defaults (relative threshold
/// 1e-4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReduceOnPlateau {
    goal: Goal,
    factor: f64,
    patience: usize,
    best: Option<f64>,
    waited: usize,
    scale: f64,
}

/// How much better, relatively, counts as better.
const THRESHOLD: f64 = 1e-4;

impl ReduceOnPlateau {
    /// A schedule that starts at the full learning rate.
    pub fn new(goal: Goal, factor: f64, patience: usize) -> Self {
        Self {
            goal,
            factor,
            patience,
            best: None,
            waited: 0,
            scale: 1.0,
        }
    }

    /// What to multiply the learning rate by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Takes the metric of an epoch and returns what to multiply the learning rate by from now on.
    pub fn observe(&mut self, metric: f64) -> f64 {
        let improved = match (self.best, self.goal) {
            (None, _) => !metric.is_nan(),
            (Some(best), Goal::Min) => metric < best * (1.0 - THRESHOLD),
            (Some(best), Goal::Max) => metric > best * (1.0 + THRESHOLD),
        };
        if improved {
            self.best = Some(metric);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        if self.waited > self.patience {
            self.scale *= self.factor;
            self.waited = 0;
        }
        self.scale
    }
}

/// Remembers the best epoch and stops `patience` epochs after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    goal: Goal,
    patience: usize,
    best: Option<(usize, f64)>,
}

impl EarlyStopping {
    /// Stops `patience` epochs after the best one.
    pub fn new(goal: Goal, patience: usize) -> Self {
        Self {
            goal,
            patience,
            best: None,
        }
    }

    /// Takes the metric of an epoch; true when it is the best so far. NaN never is.
    pub fn observe(&mut self, epoch: usize, metric: f64) -> bool {
        let better = match (self.best, self.goal) {
            (None, _) => !metric.is_nan(),
            (Some((_, best)), Goal::Min) => metric < best,
            (Some((_, best)), Goal::Max) => metric > best,
        };
        if better {
            self.best = Some((epoch, metric));
        }
        better
    }

    /// The best epoch and its metric.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best
    }

    /// Whether to stop after `epoch`: it lies `patience` or more after the best.
    pub fn exhausted(&self, epoch: usize) -> bool {
        epoch.saturating_sub(self.best.map_or(0, |(best, _)| best)) >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_after_more_than_patience_epochs() {
        let mut schedule = ReduceOnPlateau::new(Goal::Min, 0.1, 2);
        let scales: Vec<f64> = [1.0, 0.99995, 1.0, 1.0, 1.0, 0.5]
            .iter()
            .map(|m| schedule.observe(*m))
            .collect();
        // 0.99995 is within the threshold, so three bad epochs end with the fourth value.
        assert_eq!(scales[..3], [1.0, 1.0, 1.0]);
        assert!(scales[3..].iter().all(|s| (s - 0.1).abs() < 1e-15));
    }

    #[test]
    fn stopping_counts_from_the_best_epoch() {
        let mut stopping = EarlyStopping::new(Goal::Max, 2);
        let metrics = [0.5, 0.7, f64::NAN, 0.7];
        let better: Vec<bool> = metrics
            .iter()
            .enumerate()
            .map(|(e, m)| stopping.observe(e, *m))
            .collect();
        assert_eq!(better, [true, true, false, false]);
        assert!(!stopping.exhausted(2) && stopping.exhausted(3));
        assert_eq!(stopping.best(), Some((1, 0.7)));
    }
}
