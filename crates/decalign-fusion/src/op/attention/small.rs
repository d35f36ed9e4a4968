//! Heads with a handful of keys, where laying tiles out costs more than all sums: sequences of one step.

use decalign_core::Real;

use super::Problem;
use super::added::Added;
use super::head::{Rows, Sums};
use super::pack::Place;

/// The most keys, and pairs of a query and a key, of a small head.
const MOST: usize = 16;

/// Whether heads are small.
pub(super) fn fits(queries: usize, keys: usize) -> bool {
    queries * keys <= MOST
}

/// One head of one sample.
pub(super) struct Small<'a, T> {
    problem: &'a Problem<T>,
    sample: usize,
    head: usize,
    place: Place,
    value_place: Place,
    /// Dropout factors of the head.
    mask: Option<&'a [T]>,
    added: Option<Added<'a, T>>,
}

impl<'a, T: Real> Small<'a, T> {
    pub(super) fn new(
        problem: &'a Problem<T>,
        (sample, head): (usize, usize),
        mask: Option<&'a [T]>,
        added: Option<Added<'a, T>>,
    ) -> Self {
        let pairs = problem.size.queries * problem.size.keys;
        Self {
            problem,
            sample,
            head,
            place: problem.place(head),
            value_place: problem.value_place(head),
            mask: mask.map(|m| &m[head * pairs..][..pairs]),
            added,
        }
    }

    /// Whether query i sees key j.
    fn sees(&self, i: usize, j: usize) -> bool {
        let masked = match &self.problem.key_mask {
            Some(mask) => mask[self.sample * self.problem.size.keys + j] == T::zero(),
            None => false,
        };
        !(masked || (self.problem.causal && j > i))
    }

    fn factor(&self, i: usize, j: usize) -> T {
        self.mask
            .map_or(T::one(), |mask| mask[i * self.problem.size.keys + j])
    }

    /// Base-2 logits of query i, -inf where a key is not seen.
    fn logits(&self, i: usize, q: &[T], k: &[T]) -> [T; MOST] {
        let scale = self.problem.scale() * T::of(std::f64::consts::LOG2_E);
        let mut logits = [T::neg_infinity(); MOST];
        for (j, logit) in logits.iter_mut().enumerate().take(self.problem.size.keys) {
            if self.sees(i, j) {
                *logit = scale * dot(self.place.row(q, i), self.place.row(k, j));
            }
        }
        if let Some(added) = self.added {
            for (logit, v) in logits.iter_mut().zip(added.row(self.head, i)) {
                let hidden = *logit == T::neg_infinity();
                *logit = if hidden { *logit } else { *logit + v };
            }
        }
        logits
    }

    /// Results, and the logarithms of the weights' sums.
    pub(super) fn forward(&self, q: &[T], k: &[T], v: &[T], out: &mut [T], logs: &mut [T]) {
        let keys = self.problem.size.keys;
        for (i, log) in logs.iter_mut().enumerate() {
            let mut weights = self.logits(i, q, k);
            let mut largest = T::neg_infinity();
            for w in &weights[..keys] {
                // NaN is taken; it comes back from the exponential in any case.
                largest = if largest >= *w { largest } else { *w };
            }
            let shift = if largest == T::neg_infinity() {
                T::zero()
            } else {
                largest
            };
            let mut sum = T::zero();
            for w in &mut weights[..keys] {
                *w = (*w - shift).exp2();
                sum += *w;
            }
            *log = T::infinity();
            if sum != T::zero() {
                *log = shift + sum.log2();
                let scale = sum.recip();
                for (j, w) in weights[..keys].iter().enumerate() {
                    add(
                        self.value_place.row_mut(out, i),
                        self.value_place.row(v, j),
                        *w * scale * self.factor(i, j),
                    );
                }
            }
        }
    }

    /// See [`super::tiles::Backward`].
    pub(super) fn backward(&self, rows: &Rows<T>, logs: &[T], sums: &mut Sums<T>) {
        let (place, value_place) = (self.place, self.value_place);
        let keys = self.problem.size.keys;
        for (i, log) in logs.iter().enumerate() {
            let mut p = self.logits(i, rows.q, rows.k);
            let (mut u, mut mean) = ([T::zero(); MOST], T::zero());
            let g = value_place.row(rows.g, i);
            for j in 0..keys {
                p[j] = (p[j] - *log).exp2();
                u[j] = dot(g, value_place.row(rows.v, j)) * self.factor(i, j);
                mean += u[j] * p[j];
            }
            for j in 0..keys {
                u[j] = p[j] * (u[j] - mean);
                let slope = u[j] * self.problem.scale();
                add(place.row_mut(sums.q, i), place.row(rows.k, j), slope);
                add(place.row_mut(sums.k, j), place.row(rows.q, i), slope);
                add(value_place.row_mut(sums.v, j), g, p[j] * self.factor(i, j));
            }
            if let Some(added) = self.added.filter(|_| !sums.bias.is_empty()) {
                added.gather((self.head, i), 0, u.into_iter(), sums.bias);
            }
        }
    }
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

/// `to += factor x`.
fn add<T: Real>(to: &mut [T], x: &[T], factor: T) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * *x);
}
