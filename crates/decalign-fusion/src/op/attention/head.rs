//! One head of one sample, a few queries at a time.

use decalign_core::Real;
use decalign_core::random::Choices;
use decalign_core::simd::{self, LANES};

use super::Problem;
use super::added::Added;
use super::pack::{self, SLAB};
use super::rows::{Backward, Block, Forward, Head, Slab};

/// The rows of one sample: queries, keys, values, and the gradient of the result.
pub(super) struct Rows<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) g: &'a [T],
}

/// Where the gradients of a sample go; that of the bias is only there if wanted.
pub(super) struct Sums<'a, T> {
    pub(super) q: &'a mut [T],
    pub(super) k: &'a mut [T],
    pub(super) v: &'a mut [T],
    pub(super) bias: &'a mut [T],
}

/// What the heads of a sample need, kept from one to the next.
pub(super) struct Room<'a, T, const R: usize> {
    bias: Vec<T>,
    /// What is added to logits, and what R queries start from.
    added: Option<Added<'a, T>>,
    biases: Vec<Block<T, R>>,
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
    dq: Vec<Slab<T, R>>,
    rows: (Vec<Slab<T, R>>, Vec<Slab<T, R>>),
}

impl<'a, T: Real, const R: usize> Room<'a, T, R> {
    pub(super) fn new(problem: &Problem<T>, sample: usize, added: Option<Added<'a, T>>) -> Self {
        let blocks = problem.size.keys.div_ceil(LANES);
        let (wide, value) = (problem.place(0).slabs(), problem.value_place(0).slabs());
        let block = || vec![[[T::zero(); LANES]; R]; blocks];
        let slab = |slabs| vec![[[T::zero(); SLAB]; R]; slabs];
        Self {
            bias: problem.biases(sample),
            biases: if added.is_some() { block() } else { Vec::new() },
            added,
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
            out: slab(value),
            dq: slab(wide),
            rows: (slab(wide), slab(value)),
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
        let (place, value_place) = (problem.place(head), problem.value_place(head));
        pack::grouped::<T, R>(q, place, logit_scale(problem), &mut self.queries);
        pack::grouped::<T, LANES>(k, place, T::one(), &mut self.keys);
        pack::slabs(v, value_place, LANES, &mut self.value_slabs);
        for (group, logs) in logs.chunks_mut(R).enumerate() {
            let first = group * R;
            let dropped = self.dropped(logs.len());
            self.add(head, first, logs.len());
            let done = simd::dispatch(Forward {
                head: Head {
                    queries: &self.queries[first * place.size..][..R * place.size],
                    keys: &self.keys,
                    bias: &self.bias,
                    biases: self.added.is_some().then_some(&self.biases),
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
                place_row(&self.out, r, value_place.row_mut(out, first + r));
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
        sums: &mut Sums<T>,
    ) {
        let (place, value_place) = (problem.place(head), problem.value_place(head));
        pack::grouped::<T, R>(given.q, place, logit_scale(problem), &mut self.queries);
        pack::grouped::<T, R>(given.g, value_place, T::one(), &mut self.gradients);
        pack::grouped::<T, LANES>(given.k, place, T::one(), &mut self.keys);
        pack::grouped::<T, LANES>(given.v, value_place, T::one(), &mut self.values);
        pack::slabs(given.k, place, LANES, &mut self.key_slabs);
        pack::slabs(given.q, place, R, &mut self.query_slabs);
        pack::slabs(given.g, value_place, R, &mut self.gradient_slabs);
        let rows = self.key_slabs.len() / place.slabs();
        for (sums, place) in [(&mut self.dk, place), (&mut self.dv, value_place)] {
            sums.clear();
            sums.resize(rows * place.slabs(), [T::zero(); SLAB]);
        }
        for (group, of_group) in logs.chunks(R).enumerate() {
            let first = group * R;
            let dropped = self.dropped(of_group.len());
            self.add(head, first, of_group.len());
            // Behind the end weights are 0.
            let mut logs = [T::infinity(); R];
            logs[..of_group.len()].copy_from_slice(of_group);
            take(&self.query_slabs, first, &mut self.rows.0);
            take(&self.gradient_slabs, first, &mut self.rows.1);
            self.dq.fill([[T::zero(); SLAB]; R]);
            let part = |size: usize| first * size..(first + R) * size;
            simd::dispatch(Backward {
                head: Head {
                    queries: &self.queries[part(place.size)],
                    keys: &self.keys,
                    bias: &self.bias,
                    biases: self.added.is_some().then_some(&self.biases),
                    size: place.size,
                    causal: problem.causal.then_some(first),
                },
                logs,
                scale: problem.scale(),
                gradients: &self.gradients[part(value_place.size)],
                values: &self.values,
                value_size: value_place.size,
                keys: &self.key_slabs,
                rows: (&self.rows.0, &self.rows.1),
                drop: dropped.then_some(&self.drop),
                room: (&mut self.weights, &mut self.slopes),
                dq: &mut self.dq,
                dk: &mut self.dk,
                dv: &mut self.dv,
            });
            for r in 0..of_group.len() {
                place_row(&self.dq, r, place.row_mut(sums.q, first + r));
                if let Some(added) = self.added.filter(|_| !sums.bias.is_empty()) {
                    let slopes = self.slopes.iter().flat_map(|block| block[r]);
                    added.gather(head, first + r, slopes, problem.scale(), sums.bias);
                }
            }
        }
        pack::unpack(&self.dk, place, sums.k);
        pack::unpack(&self.dv, value_place, sums.v);
    }

    /// What the logits of the next queries start from, where something is added to them.
    fn add(&mut self, head: usize, first: usize, count: usize) {
        let Some(added) = &self.added else {
            return;
        };
        for (biases, masks) in self.biases.iter_mut().zip(self.bias.as_chunks::<LANES>().0) {
            // Behind the end too, where the last group's numbers are.
            biases.fill(*masks);
        }
        for r in 0..count {
            let places = self.biases.iter_mut().flat_map(|block| &mut block[r]);
            for (to, v) in places.zip(added.row(head, first + r)) {
                *to = if *to < T::zero() { *to } else { v };
            }
        }
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

/// Row r of slabs, to its place.
fn place_row<T: Real, const R: usize>(slabs: &[Slab<T, R>], r: usize, row: &mut [T]) {
    for (part, from) in row.chunks_mut(SLAB).zip(slabs) {
        part.copy_from_slice(&from[r][..part.len()]);
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
