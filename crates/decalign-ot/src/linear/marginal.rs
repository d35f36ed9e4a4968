//! One of the two measures as a sweep sees it.

use decalign_core::Real;

/// Weights, and how firmly they are held.
#[derive(Clone)]
pub(super) struct Side<T> {
    pub(super) weights: Vec<T>,
    /// log2 of the weights.
    pub(super) logs: Vec<T>,
    /// `rho / (rho + eps)`: 1 when the marginal is exact.
    hold: T,
    /// `eps / rho`: 0 when the marginal is exact.
    decay: T,
}

impl<T: Real> Side<T> {
    /// Weights penalised by `rho KL(marginal | weights)`; an infinite `rho` makes them exact.
    pub(super) fn new(weights: Vec<T>, rho: f64, epsilon: f64) -> Self {
        let exact = rho.is_infinite();
        Self {
            logs: weights.iter().map(|w| w.log2()).collect(),
            weights,
            hold: T::of(if exact { 1.0 } else { rho / (rho + epsilon) }),
            decay: T::of(if exact { 0.0 } else { epsilon / rho }),
        }
    }

    /// The whole step of potential `i`, given the step that would make its marginal exact.
    #[inline(always)]
    pub(super) fn step(&self, i: usize, potential: T, exact: T) -> T {
        match self.decay == T::zero() {
            true => exact,
            false => self.hold * exact - (T::one() - self.hold) * (potential - self.logs[i]),
        }
    }

    /// What is best moved from the other side's potentials to this one's, 0 unless one is penalised:
    /// `t = rho rho' / (rho + rho') log(<a, exp(-f / rho)> / <b, exp(-g / rho')>)`.
    ///
    /// Source: Séjourné and others (2022), translation invariant Sinkhorn.
    pub(super) fn translation(&self, f: &[T], other: &Self, g: &[T]) -> T {
        let decays = self.decay.as_f64() + other.decay.as_f64();
        if decays == 0.0 {
            return T::zero();
        }
        let asked = |side: &Self, x: &[T]| -> f64 {
            let points = side
                .weights
                .iter()
                .zip(&side.logs)
                .zip(x)
                .filter(|((w, _), _)| **w > T::zero());
            points
                .map(|((w, log), x)| {
                    w.as_f64() * (-side.decay.as_f64() * (*x - *log).as_f64()).exp2()
                })
                .sum()
        };
        let shift = (asked(self, f) / asked(other, g)).log2() / decays;
        if shift.is_finite() {
            T::of(shift)
        } else {
            T::zero()
        }
    }

    /// How far the sum of the plan at point `i` is from what its potential asks for,
    /// `a exp(-f / rho)`.
    #[inline(always)]
    pub(super) fn distance(&self, i: usize, potential: T, sum: T) -> f64 {
        let wanted = match self.decay == T::zero() {
            true => self.weights[i],
            false => self.weights[i] * (-self.decay * (potential - self.logs[i])).exp2(),
        };
        (sum.as_f64() - wanted.as_f64()).abs()
    }
}
