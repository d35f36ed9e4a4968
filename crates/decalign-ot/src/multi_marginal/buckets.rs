//! Sweeps by messages between the tables of bucket elimination, in the log domain, for graphs with cycles.
//!
//! Each marginal has a table of itself and those of its neighbours that are eliminated later. Its message to the first
//! of these, its parent, is a table on all of them, and so is the message back. As on a forest, a depth-first tour that
//! enters and leaves every marginal once is a sweep.

use decalign_core::Real;

use super::components::Components;
use super::graph::Bucket;
use super::log_scalings::LogScalings;
use super::problem::MultiMarginalProblem;
use super::state::{Evaluation, SinkhornState};
use super::tables::{Table, strides};
use crate::validate::larger;

/// The sum of the costs that a bucket holds.
pub(super) fn table<T: Real>(
    bucket: &Bucket,
    sizes: &[usize],
    edges: &[(usize, usize)],
    costs: &[Vec<T>],
) -> Vec<T> {
    let mut table = Table::new(bucket, sizes);
    for e in &bucket.edges {
        let (a, b) = edges[*e];
        table.add(&costs[*e], &strides(&bucket.scope, &[a, b], sizes));
    }
    table.cells
}

/// One problem on a graph with cycles.
pub(super) struct BucketState<'a, T> {
    problem: &'a MultiMarginalProblem,
    buckets: &'a [Bucket],
    costs: &'a [Vec<T>],
    scalings: LogScalings<'a, T>,
    components: Components,
    inverse: T,
    /// The last message of each marginal to its parent.
    up: Vec<Vec<T>>,
    /// The last message from each marginal's parent.
    down: Vec<Vec<T>>,
}

impl<'a, T: Real> BucketState<'a, T> {
    pub(super) fn new(
        problem: &'a MultiMarginalProblem,
        buckets: &'a [Bucket],
        costs: &'a [Vec<T>],
        weights: &'a [Vec<T>],
    ) -> Self {
        let messages = || -> Vec<Vec<T>> {
            let above = |b: &Bucket| b.scope[..b.scope.len() - 1].to_vec();
            let cells = |b| above(b).iter().map(|m| problem.sizes[*m]).product();
            buckets.iter().map(|b| vec![T::zero(); cells(b)]).collect()
        };
        let components = Components::new(buckets.len(), |m| buckets[m].parent);
        Self {
            problem,
            buckets,
            costs,
            scalings: LogScalings::new(weights, components.count()),
            components,
            inverse: T::one(),
            up: messages(),
            down: messages(),
        }
    }

    /// The logarithms of a bucket's table: its costs, the messages from its children without `but` and, where true,
    /// the message from its parent (`above`) and the scaling of its marginal (`own`).
    fn terms(&self, m: usize, above: bool, but: Option<usize>, own: bool) -> Table<T> {
        let (bucket, sizes) = (&self.buckets[m], &self.problem.sizes);
        let mut table = Table::new(bucket, sizes);
        let costs = table.cells.iter_mut().zip(&self.costs[m]);
        costs.for_each(|(t, c)| *t = -*c * self.inverse);
        let upper = &bucket.scope[..bucket.scope.len() - 1];
        if above && !upper.is_empty() {
            table.add(&self.down[m], &strides(&bucket.scope, upper, sizes));
        }
        for child in bucket.children.iter().filter(|c| Some(**c) != but) {
            table.add(&self.up[*child], &self.to_child(m, *child));
        }
        if own {
            table.add(self.scalings.of(m), &strides(&bucket.scope, &[m], sizes));
        }
        table
    }

    /// The strides of a child's messages on the table of its parent.
    fn to_child(&self, m: usize, child: usize) -> Vec<usize> {
        let scope = &self.buckets[child].scope;
        let upper = &scope[..scope.len() - 1];
        strides(&self.buckets[m].scope, upper, &self.problem.sizes)
    }

    /// The logarithms of the sums of all others for each point of a marginal.
    fn incoming(&self, m: usize) -> Vec<T> {
        let own = strides(&self.buckets[m].scope, &[m], &self.problem.sizes);
        let mut incoming = vec![T::zero(); self.problem.sizes[m]];
        self.terms(m, true, None, false)
            .log_sums(&own, &mut incoming);
        incoming
    }

    fn send_down(&mut self, m: usize, child: usize) {
        let mut message = std::mem::take(&mut self.down[child]);
        let terms = self.terms(m, true, Some(child), true);
        terms.log_sums(&self.to_child(m, child), &mut message);
        self.down[child] = message;
    }

    fn send_up(&mut self, m: usize) {
        let scope = &self.buckets[m].scope;
        let upper = &scope[..scope.len() - 1];
        if upper.is_empty() {
            return;
        }
        let mut message = std::mem::take(&mut self.up[m]);
        let upper = strides(scope, upper, &self.problem.sizes);
        self.terms(m, false, None, true)
            .log_sums(&upper, &mut message);
        self.up[m] = message;
    }

    fn roots(&self) -> Vec<usize> {
        let all = 0..self.buckets.len();
        all.filter(|m| self.buckets[*m].parent.is_none()).collect()
    }

    /// Sends the messages to parents of all marginals below `m`, then of `m`.
    fn gather(&mut self, m: usize) {
        let buckets = self.buckets;
        for child in &buckets[m].children {
            self.gather(*child);
        }
        self.send_up(m);
    }

    fn gather_all(&mut self) {
        for root in self.roots() {
            self.gather(root);
        }
    }

    /// Sends the messages from `m` to its children, then those below.
    fn scatter(&mut self, m: usize) {
        let buckets = self.buckets;
        for child in &buckets[m].children {
            self.send_down(m, *child);
            self.scatter(*child);
        }
    }

    /// Updates marginal `m` and those below; returns the largest error before.
    fn visit(&mut self, m: usize, relaxation: f64) -> f64 {
        let buckets = self.buckets;
        let incoming = self.incoming(m);
        let mut error = self.scalings.update(m, &incoming, relaxation);
        for child in &buckets[m].children {
            self.send_down(m, *child);
            error = larger(error, self.visit(*child, relaxation));
        }
        self.send_up(m);
        error
    }
}

impl<T: Real> SinkhornState<T> for BucketState<'_, T> {
    fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>) {
        self.scalings.start(epsilon, potentials);
        self.inverse = T::of(1.0 / epsilon);
        self.gather_all();
    }

    fn set_epsilon(&mut self, epsilon: f64) {
        self.scalings.set_epsilon(epsilon);
        self.inverse = T::of(1.0 / epsilon);
        self.gather_all();
    }

    fn sweep(&mut self, relaxation: f64) -> f64 {
        let roots = self.roots().into_iter();
        roots.fold(0.0, |error, root| {
            larger(error, self.visit(root, relaxation))
        })
    }

    fn potentials(&self) -> Vec<Vec<f64>> {
        self.scalings.potentials()
    }

    fn evaluate(&mut self, costs: bool) -> Evaluation<T> {
        self.gather_all();
        for root in self.roots() {
            self.scatter(root);
        }
        let (sizes, edges) = (&self.problem.sizes, self.problem.edges());
        let mut marginals = Vec::with_capacity(sizes.len());
        let mut pairs = vec![Vec::new(); if costs { edges.len() } else { 0 }];
        let mut pair_costs = Vec::with_capacity(sizes.len());
        for (m, bucket) in self.buckets.iter().enumerate() {
            let mut plan = self.terms(m, true, None, true);
            plan.exponentiate();
            let sums = |scope: &[usize]| plan.sums(&strides(&bucket.scope, scope, sizes));
            marginals.push(sums(&[m]));
            pair_costs.push(decalign_core::simd::dot(&plan.cells, &self.costs[m]).as_f64());
            for e in bucket.edges.iter().filter(|_| costs) {
                pairs[*e] = sums(&[edges[*e].0, edges[*e].1]);
            }
        }
        let first = |e: usize| edges[e].0;
        self.components
            .combine(&self.scalings, marginals, &pair_costs, pairs, first)
    }
}
