//! One head of one sample, a few queries at a time.

use decalign_core::Real;
use decalign_core::random::Choices;
use decalign_core::simd::{self, LANES};

use super::Problem;
use super::pack::{self, SLAB};
use super::rows::{Backward, Block, Forward, Head, Slab};

/// The rows of one sample: queries, keys, values, and the gradient of the result.
pub(super) struct Rows<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) g: &'a [T],
}

/// What the heads of a sample need, kept from one to the next.
pub(super) struct Room<T, const R: usize> {
    bias: Vec<T>,
    /// Where dropout factors come from, head by head and row by row, and what they are if not 0.
    choices: Option<(Choices, T)>,
    /// Those of one query.
    factors: Vec<T>,
    /// Queries and gradients by groups, keys and values by blocks.
    queries: Vec<T>,
    gradients: Vec<T>,
    keys: Vec<T>,
    values: Vec<T>,
    /// Keys and values, queries and gradients in slabs.
    key_slabs: Vec<[T; SLAB]>,
    value_slabs: Vec<[T; SLAB]>,
    query_slabs: Vec<[T; SLAB]>,
    gradient_slabs: Vec<[T; SLAB]>,
    /// Gradients in slabs.
    dk: Vec<[T; SLAB]>,
    dv: Vec<[T; SLAB]>,
    /// Of R queries: weights, what is multiplied by them, dropout factors.
    weights: Vec<Block<T, R>>,
    slopes: Vec<Block<T, R>>,
    drop: Vec<Block<T, R>>,
    /// Of R queries in slabs: results, queries, gradients.
    out: Vec<Slab<T, R>>,
    rows: (Vec<Slab<T, R>>, Vec<Slab<T, R>>),
}

impl<T: Real, const R: usize> Room<T, R> {
    pub(super) fn new(problem: &Problem<T>, sample: usize) -> Self {
        let blocks = problem.size.keys.div_ceil(LANES);
        let slabs = problem.place(0).slabs();
        let block = || vec![[[T::zero(); LANES]; R]; blocks];
        let slab = || vec![[[T::zero(); SLAB]; R]; slabs];
        Self {
            bias: problem.biases(sample),
            choices: problem.choices(sample),
            factors: vec![T::zero(); problem.size.keys],
            queries: Vec::new(),
            gradients: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            key_slabs: Vec::new(),
            value_slabs: Vec::new(),
            query_slabs: Vec::new(),
            gradient_slabs: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
            weights: block(),
            slopes: block(),
            drop: block(),
            out: slab(),
            rows: (slab(), slab()),
        }
    }

    /// Results of a head, to their place in the rows of `out`, and the logarithms of its sums.
    pub(super) fn forward(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        (q, k, v): (&[T], &[T], &[T]),
        out: &mut [T],
        logs: &mut [T],
    ) {
        let place = problem.place(head);
        pack::grouped::<T, R>(q, place, logit_scale(problem), &mut self.queries);
        pack::grouped::<T, LANES>(k, place, T::one(), &mut self.keys);
        pack::slabs(v, place, LANES, &mut self.value_slabs);
        for (group, logs) in logs.chunks_mut(R).enumerate() {
            let first = group * R;
            let dropped = self.dropped(logs.len());
            let done = simd::dispatch(Forward {
                head: Head {
                    queries: &self.queries[first * place.size..][..R * place.size],
                    keys: &self.keys,
                    bias: &self.bias,
                    size: place.size,
                    causal: problem.causal.then_some(first),
                },
                values: &self.value_slabs,
                drop: dropped.then_some(&self.drop),
                weights: &mut self.weights,
                out: &mut self.out,
            });
            for (r, log) in logs.iter_mut().enumerate() {
                *log = done[r];
                let row = &mut out[(first + r) * place.width + place.start..][..place.size];
                for (part, from) in row.chunks_mut(SLAB).zip(&self.out) {
                    part.copy_from_slice(&from[r][..part.len()]);
                }
            }
        }
    }

    /// Gradients of a head, to their places.
    pub(super) fn backward(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        given: &Rows<T>,
        logs: &[T],
        (dq, dk, dv): (&mut [T], &mut [T], &mut [T]),
    ) {
        let place = problem.place(head);
        pack::grouped::<T, R>(given.q, place, logit_scale(problem), &mut self.queries);
        pack::grouped::<T, R>(given.g, place, T::one(), &mut self.gradients);
        pack::grouped::<T, LANES>(given.k, place, T::one(), &mut self.keys);
        pack::grouped::<T, LANES>(given.v, place, T::one(), &mut self.values);
        pack::slabs(given.k, place, LANES, &mut self.key_slabs);
        pack::slabs(given.q, place, R, &mut self.query_slabs);
        pack::slabs(given.g, place, R, &mut self.gradient_slabs);
        for sums in [&mut self.dk, &mut self.dv] {
            sums.clear();
            sums.resize(self.key_slabs.len(), [T::zero(); SLAB]);
        }
        for (group, of_group) in logs.chunks(R).enumerate() {
            let first = group * R;
            let dropped = self.dropped(of_group.len());
            // Behind the end weights are 0.
            let mut logs = [T::infinity(); R];
            logs[..of_group.len()].copy_from_slice(of_group);
            take(&self.query_slabs, first, &mut self.rows.0);
            take(&self.gradient_slabs, first, &mut self.rows.1);
            self.out.fill([[T::zero(); SLAB]; R]);
            let part = first * place.size..(first + R) * place.size;
            simd::dispatch(Backward {
                head: Head {
                    queries: &self.queries[part.clone()],
                    keys: &self.keys,
                    bias: &self.bias,
                    size: place.size,
                    causal: problem.causal.then_some(first),
                },
                logs,
                scale: problem.scale(),
                gradients: &self.gradients[part],
                values: &self.values,
                keys: &self.key_slabs,
                rows: (&self.rows.0, &self.rows.1),
                drop: dropped.then_some(&self.drop),
                room: (&mut self.weights, &mut self.slopes),
                dq: &mut self.out,
                dk: &mut self.dk,
                dv: &mut self.dv,
            });
            for r in 0..of_group.len() {
                let row = &mut dq[(first + r) * place.width + place.start..][..place.size];
                for (part, from) in row.chunks_mut(SLAB).zip(&self.out) {
                    part.copy_from_slice(&from[r][..part.len()]);
                }
            }
        }
        pack::unpack(&self.dk, place, dk);
        pack::unpack(&self.dv, place, dv);
    }

    /// Draws the dropout factors of the next queries, by blocks; false without dropout.
    fn dropped(&mut self, count: usize) -> bool {
        let Some((choices, on)) = &mut self.choices else {
            return false;
        };
        for r in 0..count {
            choices.fill(&mut self.factors, *on);
            for (to, from) in self.drop.iter_mut().zip(self.factors.chunks(LANES)) {
                to[r][..from.len()].copy_from_slice(from);
            }
        }
        true
    }
}

/// Logits are in base 2.
fn logit_scale<T: Real>(problem: &Problem<T>) -> T {
    problem.scale() * T::of(std::f64::consts::LOG2_E)
}

/// R rows of every slab.
fn take<T: Real, const R: usize>(slabs: &[[T; SLAB]], first: usize, out: &mut [[[T; SLAB]; R]]) {
    let rows = slabs.len() / out.len().max(1);
    for (out, slab) in out.iter_mut().zip(slabs.chunks_exact(rows.max(1))) {
        out.copy_from_slice(&slab[first..first + R]);
    }
}
