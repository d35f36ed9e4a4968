//! Sweeps by messages along the edges of a forest, in the log domain.
//!
//! With `F_m = f_m / eps + log nu_m`, the sums over all marginals on one side of an edge form a vector on its other
//! end: a message. A depth-first tour enters and leaves every marginal once and scales it with messages that include
//! all earlier scalings, which equals a sweep on the joint plan and takes two messages for each edge. Source: Haasler
//! and others (2021).

use decalign_core::Real;
use decalign_core::simd;

use super::components::Components;
use super::graph::{Forest, TourStep};
use super::joint::transposed;
use super::log_scalings::LogScalings;
use super::message::{EdgeCosts, Message, padded};
use super::problem::MultiMarginalProblem;
use super::state::{Evaluation, SinkhornState, convert};
use crate::validate::larger;

/// The costs between each marginal and its parent.
pub(super) struct Links<T>(Vec<Option<Link<T>>>);

struct Link<T> {
    from_parent: EdgeCosts<T>,
    to_parent: EdgeCosts<T>,
    /// Whether the edge was given from child to parent.
    upward: bool,
}

impl<T: Real> Links<T> {
    pub(super) fn new<D: Real>(
        forest: &Forest,
        sizes: &[usize],
        edges: &[(usize, usize)],
        costs: &[&[D]],
    ) -> Self {
        let link = |(m, parent): (usize, &Option<(usize, usize)>)| {
            let (p, e) = (*parent)?;
            let given: Vec<T> = convert(costs[e]);
            let turned = transposed(&given, sizes[edges[e].1]);
            let upward = edges[e].0 == m;
            let (down, up) = if upward {
                (turned, given)
            } else {
                (given, turned)
            };
            Some(Link {
                from_parent: EdgeCosts::new(&down, sizes[m]),
                to_parent: EdgeCosts::new(&up, sizes[p]),
                upward,
            })
        };
        Self(forest.parents.iter().enumerate().map(link).collect())
    }
}

/// One problem on a forest.
pub(super) struct ForestState<'a, T> {
    problem: &'a MultiMarginalProblem,
    forest: &'a Forest,
    links: &'a Links<T>,
    /// `F_m` of all marginals.
    scalings: LogScalings<'a, T>,
    components: Components,
    inverse: T,
    /// The messages to each marginal's parent and from it.
    messages: Vec<Option<[Message<'a, T>; 2]>>,
    /// The last message to each marginal's parent.
    up: Vec<Vec<T>>,
    /// The last message from each marginal's parent.
    down: Vec<Vec<T>>,
}

impl<'a, T: Real> ForestState<'a, T> {
    pub(super) fn new(
        problem: &'a MultiMarginalProblem,
        forest: &'a Forest,
        links: &'a Links<T>,
        weights: &'a [Vec<T>],
    ) -> Self {
        let parent = |m: usize| forest.parents[m].map(|(p, _)| p);
        let zeros = |n: usize| vec![T::zero(); padded(n)];
        let sizes = &problem.sizes;
        let components = Components::new(sizes.len(), parent);
        Self {
            problem,
            forest,
            links,
            scalings: LogScalings::new(weights, components.count()),
            components,
            inverse: T::one(),
            messages: links
                .0
                .iter()
                .map(|link| {
                    let link = link.as_ref()?;
                    Some([&link.to_parent, &link.from_parent].map(Message::new))
                })
                .collect(),
            up: (0..sizes.len())
                .map(|m| zeros(parent(m).map_or(0, |p| sizes[p])))
                .collect(),
            down: sizes.iter().map(|k| zeros(*k)).collect(),
        }
    }

    /// The sum of the messages to marginal m, without that of the child `but`.
    fn incoming(&self, m: usize, but: Option<usize>) -> Vec<T> {
        let mut sum = self.down[m].clone();
        for child in self.forest.children[m].iter().filter(|c| Some(**c) != but) {
            add(&mut sum, &self.up[*child]);
        }
        sum
    }

    /// Sends the message from the parent of m.
    fn send_down(&mut self, m: usize) {
        let Some((p, _)) = self.forest.parents[m] else {
            return;
        };
        let mut a = self.incoming(p, Some(m));
        add(&mut a, self.scalings.of(p));
        a.truncate(self.problem.sizes[p]);
        if let Some([_, message]) = &mut self.messages[m] {
            message.send(&a, self.inverse, &mut self.down[m]);
        }
    }

    /// Sends the message to the parent of m.
    fn send_up(&mut self, m: usize) {
        let Some([message, _]) = &mut self.messages[m] else {
            return;
        };
        let mut a = self.scalings.of(m).to_vec();
        for child in &self.forest.children[m] {
            add(&mut a, &self.up[*child]);
        }
        message.send(&a, self.inverse, &mut self.up[m]);
    }

    /// Sends all messages to parents, children first.
    fn send_all_up(&mut self) {
        for step in &self.forest.tour {
            if let TourStep::Leave(m) = step {
                self.send_up(*m);
            }
        }
    }

    /// The marginal of the plan on the edge from the parent of m to m, and its transport cost.
    fn pair(&self, m: usize) -> (Vec<T>, f64) {
        let (Some((p, _)), Some(link)) = (self.forest.parents[m], &self.links.0[m]) else {
            return (Vec::new(), 0.0);
        };
        let mut above = self.incoming(p, Some(m));
        add(&mut above, self.scalings.of(p));
        let mut below = self.scalings.of(m).to_vec();
        for child in &self.forest.children[m] {
            add(&mut below, &self.up[*child]);
        }
        let mut pair = Vec::with_capacity(self.problem.sizes[p] * below.len());
        let mut cost = 0.0;
        for (i, a) in above.iter().enumerate().take(self.problem.sizes[p]) {
            let costs = &link.from_parent.row(i)[..below.len()];
            let start = pair.len();
            let terms = below
                .iter()
                .zip(costs)
                .map(|(b, c)| *a + *b - *c * self.inverse);
            pair.extend(terms);
            simd::exp_in_place(&mut pair[start..]);
            cost += simd::dot(&pair[start..], costs).as_f64();
        }
        (pair, cost)
    }
}

fn add<T: Real>(to: &mut [T], x: &[T]) {
    to.iter_mut().zip(x).for_each(|(t, x)| *t += *x);
}

impl<T: Real> SinkhornState<T> for ForestState<'_, T> {
    fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>) {
        self.scalings.start(epsilon, potentials);
        self.inverse = T::of(1.0 / epsilon);
        self.send_all_up();
    }

    fn set_epsilon(&mut self, epsilon: f64) {
        self.scalings.set_epsilon(epsilon);
        self.inverse = T::of(1.0 / epsilon);
        self.send_all_up();
    }

    fn sweep(&mut self, relaxation: f64) -> f64 {
        let mut error = 0.0;
        for step in &self.forest.tour {
            match *step {
                TourStep::Enter(m) => {
                    self.send_down(m);
                    let incoming = self.incoming(m, None);
                    error = larger(error, self.scalings.update(m, &incoming, relaxation));
                }
                TourStep::Leave(m) => self.send_up(m),
            }
        }
        error
    }

    fn potentials(&self) -> Vec<Vec<f64>> {
        self.scalings.potentials()
    }

    fn evaluate(&mut self, costs: bool) -> Evaluation<T> {
        self.send_all_up();
        for step in &self.forest.tour {
            if let TourStep::Enter(m) = step {
                self.send_down(*m);
            }
        }
        let sizes = &self.problem.sizes;
        let marginals =
            (0..sizes.len()).map(|m| self.scalings.marginal(m, &self.incoming(m, None)));
        let marginals = marginals.collect();
        let mut pairs = vec![Vec::new(); self.problem.edges().len()];
        let mut pair_costs = vec![0.0; sizes.len()];
        for (m, parent) in self.forest.parents.iter().enumerate() {
            let Some((p, e)) = parent else { continue };
            let (pair, cost) = self.pair(m);
            pair_costs[m] = cost;
            let upward = self.links.0[m].as_ref().is_some_and(|link| link.upward);
            pairs[*e] = match upward {
                true if costs => transposed(&pair, pair.len() / sizes[*p]),
                _ => pair,
            };
        }
        if !costs {
            pairs.clear();
        }
        let first = |e: usize| self.problem.edges()[e].0;
        self.components
            .combine(&self.scalings, marginals, &pair_costs, pairs, first)
    }
}
