//! Sweeps by messages along the edges of a forest, in the log domain.
//!
//! With `F_m = f_m / eps + log nu_m`, what the marginals on one side of an edge give those on the
//! other is a vector on the edge's end: a message. On a walk that enters and leaves every marginal
//! once, each is scaled with messages that know of all scalings before it, as if the joint plan
//! were there: a sweep is two messages an edge. (Haasler and others, 2021.)

use decalign_core::Real;
use decalign_core::simd;

use super::engine::{Engine, Evaluation, convert};
use super::graph::{Forest, Step};
use super::joint::transposed;
use super::message::{EdgeCosts, Message, padded};
use super::parts::{LogVectors, Parts};
use super::problem::MultiMarginalProblem;
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
pub(super) struct ForestEngine<'a, T> {
    problem: &'a MultiMarginalProblem,
    forest: &'a Forest,
    links: &'a Links<T>,
    /// `F_m`.
    vectors: LogVectors<'a, T>,
    parts: Parts,
    inverse: T,
    /// To each marginal's parent, and from it.
    messages: Vec<Option<[Message<'a, T>; 2]>>,
    /// What was sent last: to each marginal's parent.
    up: Vec<Vec<T>>,
    /// From each marginal's parent.
    down: Vec<Vec<T>>,
}

impl<'a, T: Real> ForestEngine<'a, T> {
    pub(super) fn new(
        problem: &'a MultiMarginalProblem,
        forest: &'a Forest,
        links: &'a Links<T>,
        weights: &'a [Vec<T>],
    ) -> Self {
        let parent = |m: usize| forest.parents[m].map(|(p, _)| p);
        let zeros = |n: usize| vec![T::zero(); padded(n)];
        let sizes = &problem.sizes;
        let parts = Parts::new(sizes.len(), parent);
        Self {
            problem,
            forest,
            links,
            vectors: LogVectors::new(weights, parts.count()),
            parts,
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

    /// All that marginal m hears, but from one of its children.
    fn heard(&self, m: usize, but: Option<usize>) -> Vec<T> {
        let mut sum = self.down[m].clone();
        for child in self.forest.children[m].iter().filter(|c| Some(**c) != but) {
            add(&mut sum, &self.up[*child]);
        }
        sum
    }

    /// The message from its parent.
    fn enter(&mut self, m: usize) {
        let Some((p, _)) = self.forest.parents[m] else {
            return;
        };
        let mut a = self.heard(p, Some(m));
        add(&mut a, self.vectors.of(p));
        a.truncate(self.problem.sizes[p]);
        if let Some([_, message]) = &mut self.messages[m] {
            message.send(&a, self.inverse, &mut self.down[m]);
        }
    }

    /// The message to its parent.
    fn leave(&mut self, m: usize) {
        let Some([message, _]) = &mut self.messages[m] else {
            return;
        };
        let mut a = self.vectors.of(m).to_vec();
        for child in &self.forest.children[m] {
            add(&mut a, &self.up[*child]);
        }
        message.send(&a, self.inverse, &mut self.up[m]);
    }

    /// All messages to parents.
    fn leave_all(&mut self) {
        for step in &self.forest.tour {
            if let Step::Leave(m) = step {
                self.leave(*m);
            }
        }
    }

    /// The plan's marginal on an edge, from parent to child, and its cost.
    fn pair(&self, m: usize) -> (Vec<T>, f64) {
        let (Some((p, _)), Some(link)) = (self.forest.parents[m], &self.links.0[m]) else {
            return (Vec::new(), 0.0);
        };
        let mut above = self.heard(p, Some(m));
        add(&mut above, self.vectors.of(p));
        let mut below = self.vectors.of(m).to_vec();
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

impl<T: Real> Engine<T> for ForestEngine<'_, T> {
    fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>) {
        self.vectors.start(epsilon, potentials);
        self.inverse = T::of(1.0 / epsilon);
        self.leave_all();
    }

    fn go_on(&mut self, epsilon: f64) {
        self.vectors.go_on(epsilon);
        self.inverse = T::of(1.0 / epsilon);
        self.leave_all();
    }

    fn sweep(&mut self, relaxation: f64) -> f64 {
        let mut error = 0.0;
        for step in &self.forest.tour {
            match *step {
                Step::Enter(m) => {
                    self.enter(m);
                    let heard = self.heard(m, None);
                    error = larger(error, self.vectors.update(m, &heard, relaxation));
                }
                Step::Leave(m) => self.leave(m),
            }
        }
        error
    }

    fn potentials(&self) -> Vec<Vec<f64>> {
        self.vectors.potentials()
    }

    fn evaluate(&mut self, costs: bool) -> Evaluation<T> {
        self.leave_all();
        for step in &self.forest.tour {
            if let Step::Enter(m) = step {
                self.enter(*m);
            }
        }
        let sizes = &self.problem.sizes;
        let marginals = (0..sizes.len()).map(|m| self.vectors.marginal(m, &self.heard(m, None)));
        let marginals = marginals.collect();
        let mut pairs = vec![Vec::new(); self.problem.edges().len()];
        let mut spent = vec![0.0; sizes.len()];
        for (m, parent) in self.forest.parents.iter().enumerate() {
            let Some((p, e)) = parent else { continue };
            let (pair, cost) = self.pair(m);
            spent[m] = cost;
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
        self.parts
            .join(&self.vectors, marginals, &spent, pairs, first)
    }
}
