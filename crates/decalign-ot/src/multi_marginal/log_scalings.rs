//! Scalings of the marginals in the log domain.

use decalign_core::Real;
use decalign_core::simd;

/// `F_m = f_m / eps + log nu_m` of every marginal, -inf where there is no mass.
pub(super) struct LogScalings<'a, T> {
    weights: &'a [Vec<T>],
    logs: Vec<Vec<T>>,
    scalings: Vec<Vec<T>>,
    epsilon: f64,
    /// The total of marginal 0.
    pub(super) total: f64,
    /// Each component's plan has the whole mass, so their product has too many factors of it: their logarithm is kept
    /// in the scaling of marginal 0 and out of its potentials.
    surplus: f64,
}

impl<'a, T: Real> LogScalings<'a, T> {
    pub(super) fn new(weights: &'a [Vec<T>], components: usize) -> Self {
        let logs: Vec<Vec<T>> = weights
            .iter()
            .map(|w| w.iter().map(|v| v.ln()).collect())
            .collect();
        let total: f64 = weights[0].iter().map(|v| v.as_f64()).sum();
        Self {
            weights,
            scalings: logs.clone(),
            logs,
            epsilon: 1.0,
            total,
            surplus: (components as f64 - 1.0) * total.ln(),
        }
    }

    pub(super) fn of(&self, m: usize) -> &[T] {
        &self.scalings[m]
    }

    pub(super) fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>) {
        self.epsilon = epsilon;
        for (m, (scaling, logs)) in self.scalings.iter_mut().zip(&self.logs).enumerate() {
            scaling.copy_from_slice(logs);
            let surplus = if m == 0 { self.surplus } else { 0.0 };
            let given = potentials.map(|f| &f[m]);
            for (v, f) in scaling.iter_mut().zip(given.into_iter().flatten()) {
                *v += T::of(*f / epsilon + surplus);
            }
        }
    }

    pub(super) fn set_epsilon(&mut self, epsilon: f64) {
        let ratio = T::of(self.epsilon / epsilon);
        self.epsilon = epsilon;
        for (scaling, logs) in self.scalings.iter_mut().zip(&self.logs) {
            for (v, log) in scaling
                .iter_mut()
                .zip(logs)
                .filter(|(_, log)| log.is_finite())
            {
                *v = (*v - *log) * ratio + *log;
            }
        }
    }

    /// Scales marginal m to its weights, given the logarithms of its incoming sums; a relaxation above 1 goes
    /// further. Returns its L1 error before.
    pub(super) fn update(&mut self, m: usize, incoming: &[T], relaxation: f64) -> f64 {
        let wrong = self.marginal(m, incoming).into_iter().zip(&self.weights[m]);
        let error = wrong.map(|(got, want)| (got - *want).abs().as_f64()).sum();
        let each = self.scalings[m].iter_mut().zip(&self.logs[m]).zip(incoming);
        for ((v, log), incoming) in each.filter(|((_, log), _)| log.is_finite()) {
            let right = *log - *incoming;
            *v = match relaxation == 1.0 {
                true => right,
                false => *v + T::of(relaxation) * (right - *v),
            };
        }
        error
    }

    /// `exp(F_m + incoming)`.
    pub(super) fn marginal(&self, m: usize, incoming: &[T]) -> Vec<T> {
        let terms = self.scalings[m].iter().zip(incoming);
        let mut sums: Vec<T> = terms.map(|(v, incoming)| *v + *incoming).collect();
        simd::exp_in_place(&mut sums);
        sums
    }

    pub(super) fn potentials(&self) -> Vec<Vec<f64>> {
        let each = self.scalings.iter().zip(&self.logs).enumerate();
        let each = each.map(|(m, (scaling, logs))| {
            let surplus = if m == 0 { self.surplus } else { 0.0 };
            let points = scaling
                .iter()
                .zip(logs)
                .map(|(v, log)| match log.is_finite() {
                    true => self.epsilon * (v.as_f64() - log.as_f64() - surplus),
                    false => 0.0,
                });
            points.collect()
        });
        each.collect()
    }
}
