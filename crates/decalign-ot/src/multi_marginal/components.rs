//! The connected components of a problem's graph, and their plans as one.

use decalign_core::Real;

use super::log_scalings::LogScalings;
use super::state::Evaluation;

/// The connected components of the marginals that costs join.
pub(super) struct Components {
    /// The root of each marginal's component.
    roots: Vec<usize>,
}

impl Components {
    pub(super) fn new(marginals: usize, parent: impl Fn(usize) -> Option<usize>) -> Self {
        let root = |m: usize| std::iter::successors(Some(m), |m| parent(*m)).last();
        let roots = (0..marginals).map(|m| root(m).unwrap_or(m)).collect();
        Self { roots }
    }

    pub(super) fn count(&self) -> usize {
        self.roots().count()
    }

    fn roots(&self) -> impl Iterator<Item = usize> {
        let own = self.roots.iter().enumerate().filter(|(m, root)| m == *root);
        own.map(|(m, _)| m)
    }

    /// Evaluates the joint plan: the product of the components' plans, divided by the mass to the power of their
    /// number less one.
    ///
    /// `costs` are transport costs, summed by the marginal whose component they belong to; the first marginal of
    /// table `e` is `first(e)`.
    pub(super) fn combine<T: Real>(
        &self,
        vectors: &LogScalings<T>,
        mut marginals: Vec<Vec<T>>,
        costs: &[f64],
        mut tables: Vec<Vec<T>>,
        first: impl Fn(usize) -> usize,
    ) -> Evaluation<T> {
        let mut masses = vec![0.0; marginals.len()];
        for root in self.roots() {
            masses[root] = marginals[root].iter().map(|v| v.as_f64()).sum();
        }
        let product = |product: f64, root: usize| product * (masses[root] / vectors.total);
        let mass = vectors.total * self.roots().fold(1.0, product);
        let factor = |m: usize| mass / masses[self.roots[m]];
        // A single component is the whole plan.
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
        let transport_cost = costs
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
