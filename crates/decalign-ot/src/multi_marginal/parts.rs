//! Vectors in the log domain, and plans of parts that no cost joins.

use decalign_core::Real;
use decalign_core::simd;

use super::engine::Evaluation;

/// `F_m = f_m / eps + log nu_m` of every marginal, -inf where there is no mass.
pub(super) struct LogVectors<'a, T> {
    weights: &'a [Vec<T>],
    logs: Vec<Vec<T>>,
    vectors: Vec<Vec<T>>,
    epsilon: f64,
    /// The total of marginal 0.
    pub(super) total: f64,
    /// Each part of a plan has all mass, their product has it to the power of their number; the
    /// surplus, in logarithms, is kept out of the potentials of marginal 0.
    surplus: f64,
}

impl<'a, T: Real> LogVectors<'a, T> {
    pub(super) fn new(weights: &'a [Vec<T>], parts: usize) -> Self {
        let logs: Vec<Vec<T>> = weights
            .iter()
            .map(|w| w.iter().map(|v| v.ln()).collect())
            .collect();
        let total: f64 = weights[0].iter().map(|v| v.as_f64()).sum();
        Self {
            weights,
            vectors: logs.clone(),
            logs,
            epsilon: 1.0,
            total,
            surplus: (parts as f64 - 1.0) * total.ln(),
        }
    }

    pub(super) fn of(&self, m: usize) -> &[T] {
        &self.vectors[m]
    }

    pub(super) fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>) {
        self.epsilon = epsilon;
        for (m, (vector, logs)) in self.vectors.iter_mut().zip(&self.logs).enumerate() {
            vector.copy_from_slice(logs);
            let surplus = if m == 0 { self.surplus } else { 0.0 };
            let given = potentials.map(|f| &f[m]);
            for (v, f) in vector.iter_mut().zip(given.into_iter().flatten()) {
                *v += T::of(*f / epsilon + surplus);
            }
        }
    }

    pub(super) fn go_on(&mut self, epsilon: f64) {
        let ratio = T::of(self.epsilon / epsilon);
        self.epsilon = epsilon;
        for (vector, logs) in self.vectors.iter_mut().zip(&self.logs) {
            for (v, log) in vector
                .iter_mut()
                .zip(logs)
                .filter(|(_, log)| log.is_finite())
            {
                *v = (*v - *log) * ratio + *log;
            }
        }
    }

    /// Makes marginal m right, given the logarithms of what all others give it, or goes further;
    /// returns the L1 error it had.
    pub(super) fn update(&mut self, m: usize, heard: &[T], relaxation: f64) -> f64 {
        let wrong = self.marginal(m, heard).into_iter().zip(&self.weights[m]);
        let error = wrong.map(|(got, want)| (got - *want).abs().as_f64()).sum();
        let each = self.vectors[m].iter_mut().zip(&self.logs[m]).zip(heard);
        for ((v, log), heard) in each.filter(|((_, log), _)| log.is_finite()) {
            let right = *log - *heard;
            *v = match relaxation == 1.0 {
                true => right,
                false => *v + T::of(relaxation) * (right - *v),
            };
        }
        error
    }

    /// `exp(F_m + heard)`.
    pub(super) fn marginal(&self, m: usize, heard: &[T]) -> Vec<T> {
        let terms = self.vectors[m].iter().zip(heard);
        let mut sums: Vec<T> = terms.map(|(v, heard)| *v + *heard).collect();
        simd::exp_in_place(&mut sums);
        sums
    }

    pub(super) fn potentials(&self) -> Vec<Vec<f64>> {
        let each = self.vectors.iter().zip(&self.logs).enumerate();
        let each = each.map(|(m, (vector, logs))| {
            let surplus = if m == 0 { self.surplus } else { 0.0 };
            let points = vector
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

/// Which marginals hang together.
pub(super) struct Parts {
    /// The marginal at the root of each marginal's part.
    roots: Vec<usize>,
}

impl Parts {
    pub(super) fn new(marginals: usize, parent: impl Fn(usize) -> Option<usize>) -> Self {
        let root = |m: usize| std::iter::successors(Some(m), |m| parent(*m)).last();
        let roots = (0..marginals).map(|m| root(m).unwrap_or(m)).collect();
        Self { roots }
    }

    pub(super) fn count(&self) -> usize {
        self.each().count()
    }

    fn each(&self) -> impl Iterator<Item = usize> {
        let own = self.roots.iter().enumerate().filter(|(m, root)| m == *root);
        own.map(|(m, _)| m)
    }

    /// The plan of all, given those of the parts: their product over the mass to the power of their
    /// number less one.
    ///
    /// `spent` are costs, each in the part of the marginal it stands at; the first marginal of table
    /// `e` is `first(e)`.
    pub(super) fn join<T: Real>(
        &self,
        vectors: &LogVectors<T>,
        mut marginals: Vec<Vec<T>>,
        spent: &[f64],
        mut tables: Vec<Vec<T>>,
        first: impl Fn(usize) -> usize,
    ) -> Evaluation<T> {
        let mut masses = vec![0.0; marginals.len()];
        for root in self.each() {
            masses[root] = marginals[root].iter().map(|v| v.as_f64()).sum();
        }
        let product = |product: f64, root: usize| product * (masses[root] / vectors.total);
        let mass = vectors.total * self.each().fold(1.0, product);
        let factor = |m: usize| mass / masses[self.roots[m]];
        // The only part is the whole.
        if self.count() > 1 {
            let scale = |x: &mut Vec<T>, m: usize| {
                let factor = T::of(factor(m));
                x.iter_mut().for_each(|v| *v *= factor);
            };
            marginals
                .iter_mut()
                .enumerate()
                .for_each(|(m, x)| scale(x, m));
            tables
                .iter_mut()
                .enumerate()
                .for_each(|(e, x)| scale(x, first(e)));
        }
        let transport_cost = spent
            .iter()
            .enumerate()
            .map(|(m, cost)| cost * factor(m))
            .sum();
        Evaluation {
            marginals,
            mass,
            transport_cost,
            costs: tables,
        }
    }
}
