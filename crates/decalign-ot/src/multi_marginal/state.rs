//! The state of a solve: the interface that the dense, forest and bucket methods share.

use decalign_core::Real;

use super::buckets::BucketState;
use super::dense::DenseState;
use super::forest::{ForestState, Links};
use super::graph::Method;
use super::joint::joint_cost;
use super::layout::JointLayout;
use super::problem::MultiMarginalProblem;
use crate::validate::larger;

/// The potentials of one problem, with whatever its method needs to sweep.
pub(super) trait SinkhornState<T> {
    /// Starts at an epsilon from the given potentials, or from 0.
    fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>);
    /// Changes epsilon and keeps the potentials.
    fn set_epsilon(&mut self, epsilon: f64);
    /// Scales the plan to every marginal in turn; a relaxation above 1 lengthens the step. Returns the largest L1
    /// error of a marginal before its update, infinity where that is unknown.
    fn sweep(&mut self, relaxation: f64) -> f64;
    /// `f_m`, 0 at points without mass.
    fn potentials(&self) -> Vec<Vec<f64>>;
    /// Evaluates the plan; [`Evaluation::costs`] only where `costs` is true.
    fn evaluate(&mut self, costs: bool) -> Evaluation<T>;
}

/// The sums of a plan.
pub(super) struct Evaluation<T> {
    /// The marginals.
    pub(super) marginals: Vec<Vec<T>>,
    pub(super) mass: f64,
    /// `<T, C>`.
    pub(super) transport_cost: f64,
    /// For each cost the sums over the marginals that it does not depend on: its gradient.
    pub(super) costs: Vec<Vec<T>>,
}

impl<T: Real> Evaluation<T> {
    /// The largest L1 distance of a marginal from its weights; NaN if one is.
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

/// The second where it is less, else the first: a NaN in the second is ignored.
#[inline(always)]
pub(super) fn least<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

/// The second where it is greater, else the first: a NaN in the second is ignored.
#[inline(always)]
pub(super) fn greatest<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The costs of one problem in the form that its method needs.
pub(super) enum CostTables<T> {
    Dense(JointLayout, Vec<T>),
    Forest(Links<T>),
    /// A table for each bucket.
    Buckets(Vec<Vec<T>>),
}

impl<T: Real> CostTables<T> {
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

    /// The joint cost of any problem.
    pub(super) fn dense<D: Real>(
        problem: &MultiMarginalProblem,
        costs: &[&[D]],
    ) -> (JointLayout, Vec<T>) {
        let cells = JointLayout::new(&problem.sizes);
        let joint = joint_cost(&cells, &problem.structure, costs);
        (cells, joint)
    }

    pub(super) fn state<'a>(
        &'a self,
        problem: &'a MultiMarginalProblem,
        weights: &'a [Vec<T>],
    ) -> Box<dyn SinkhornState<T> + 'a> {
        match (self, &problem.method) {
            (Self::Forest(links), Method::Forest(forest)) => {
                Box::new(ForestState::new(problem, forest, links, weights))
            }
            (Self::Buckets(tables), Method::Buckets(buckets)) => {
                Box::new(BucketState::new(problem, buckets, tables, weights))
            }
            (Self::Dense(cells, joint), _) => {
                Box::new(DenseState::new(cells, &problem.structure, joint, weights))
            }
            // `new` matches the tables to the method of the problem.
            _ => unreachable!("tables of another problem"),
        }
    }
}

/// Converts numbers to another type.
pub(super) fn convert<D: Real, T: Real>(x: &[D]) -> Vec<T> {
    x.iter().map(|v| T::of(v.as_f64())).collect()
}
