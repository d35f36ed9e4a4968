//! Decisions by a validation metric: the learning rate, and when to stop.

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

/// Minimum relative improvement, PyTorch's default.
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

    /// The factor of the learning rate.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Takes the metric of an epoch and returns the factor of the learning rate from now on.
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

    /// True when `epoch` lies `patience` or more epochs after the best: stop.
    pub fn exhausted(&self, epoch: usize) -> bool {
        epoch.saturating_sub(self.best.map_or(0, |(best, _)| best)) >= self.patience
    }
}
