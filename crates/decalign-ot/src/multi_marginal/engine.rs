//! What every way of solving a problem can do.

use decalign_core::Real;

use super::buckets::BucketEngine;
use super::cells::Cells;
use super::dense::DenseEngine;
use super::forest::{ForestEngine, Links};
use super::graph::Method;
use super::joint::joint_cost;
use super::problem::MultiMarginalProblem;
use crate::validate::larger;

/// One problem on its way to being solved: potentials, and whatever speeds up their sweeps.
pub(super) trait Engine<T> {
    /// Begins at an epsilon, from potentials or from none.
    fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>);
    /// Goes on at another epsilon with the same potentials.
    fn go_on(&mut self, epsilon: f64);
    /// Makes every marginal of the plan right in turn, or with a relaxation above 1 goes further in
    /// that direction; returns the largest L1 error that one had before, infinity if that is not
    /// known.
    fn sweep(&mut self, relaxation: f64) -> f64;
    /// `f_m`, 0 where there is no mass.
    fn potentials(&self) -> Vec<Vec<f64>>;
    /// What the plan of these potentials comes to; the sums for `costs` only where asked for.
    fn evaluate(&mut self, costs: bool) -> Evaluation<T>;
}

/// What a plan comes to.
pub(super) struct Evaluation<T> {
    /// Its marginals.
    pub(super) marginals: Vec<Vec<T>>,
    pub(super) mass: f64,
    /// `<T, C>`.
    pub(super) transport_cost: f64,
    /// Its sums over all that a cost does not depend on: the gradients of the costs.
    pub(super) costs: Vec<Vec<T>>,
}

impl<T: Real> Evaluation<T> {
    /// The largest L1 distance of a marginal from what it should be; NaN if one is.
    pub(super) fn error(&self, weights: &[Vec<T>]) -> f64 {
        let each = self.marginals.iter().zip(weights).map(|(got, want)| {
            let off = got
                .iter()
                .zip(want)
                .map(|(g, w)| (g.as_f64() - w.as_f64()).abs());
            off.sum::<f64>()
        });
        each.fold(0.0, larger)
    }
}

/// The second where it is less: NaN never is.
#[inline(always)]
pub(super) fn least<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

/// The second where it is greater: NaN never is.
#[inline(always)]
pub(super) fn greatest<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The costs of one problem as its method wants them.
pub(super) enum Tables<T> {
    Dense(Cells, Vec<T>),
    Forest(Links<T>),
    /// A table a bucket.
    Buckets(Vec<Vec<T>>),
}

impl<T: Real> Tables<T> {
    pub(super) fn new<D: Real>(problem: &MultiMarginalProblem, costs: &[&[D]]) -> Self {
        match &problem.method {
            Method::Dense => {
                let (cells, joint) = Self::dense(problem, costs);
                Self::Dense(cells, joint)
            }
            Method::Forest(forest) => {
                Self::Forest(Links::new(forest, &problem.sizes, problem.edges(), costs))
            }
            Method::Buckets(buckets) => {
                let costs = costs.iter().map(|c| convert(c)).collect::<Vec<_>>();
                let table = |b| super::buckets::table(b, &problem.sizes, problem.edges(), &costs);
                Self::Buckets(buckets.iter().map(table).collect())
            }
        }
    }

    /// The joint cost, whatever the method.
    pub(super) fn dense<D: Real>(
        problem: &MultiMarginalProblem,
        costs: &[&[D]],
    ) -> (Cells, Vec<T>) {
        let cells = Cells::new(&problem.sizes);
        let joint = joint_cost(&cells, &problem.structure, costs);
        (cells, joint)
    }

    pub(super) fn engine<'a>(
        &'a self,
        problem: &'a MultiMarginalProblem,
        weights: &'a [Vec<T>],
    ) -> Box<dyn Engine<T> + 'a> {
        match (self, &problem.method) {
            (Self::Forest(links), Method::Forest(forest)) => {
                Box::new(ForestEngine::new(problem, forest, links, weights))
            }
            (Self::Buckets(tables), Method::Buckets(buckets)) => {
                Box::new(BucketEngine::new(problem, buckets, tables, weights))
            }
            (Self::Dense(cells, joint), _) => {
                Box::new(DenseEngine::new(cells, &problem.structure, joint, weights))
            }
            // Tables are made for the method of the problem.
            _ => unreachable!("tables of another problem"),
        }
    }
}

/// Numbers in another type.
pub(super) fn convert<D: Real, T: Real>(x: &[D]) -> Vec<T> {
    x.iter().map(|v| T::of(v.as_f64())).collect()
}
