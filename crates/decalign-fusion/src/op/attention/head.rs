//! The heads of one sample, a few queries at a time.

use decalign_core::Real;
use decalign_core::random::{Choices, Number};
use decalign_core::simd::{self, LANES};

use super::Problem;
use super::added::Added;
use super::pack::{self, Blocks, Place, SLAB, Unblocked};
use super::tiles::{Backward, Block, Chosen, Forward, Head, Slab};

/// The rows of one sample: queries, keys, values, the result and its gradient.
pub(super) struct Rows<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) out: &'a [T],
    pub(super) g: &'a [T],
}

/// Where the gradients of a sample go; that of the bias is only there if wanted.
pub(super) struct Sums<'a, T> {
    pub(super) q: &'a mut [T],
    pub(super) k: &'a mut [T],
    pub(super) v: &'a mut [T],
    pub(super) bias: &'a mut [T],
}

impl<T> Sums<'_, T> {
    /// The same places for a shorter time.
    pub(super) fn again(&mut self) -> Sums<'_, T> {
        Sums {
            q: self.q,
            k: self.k,
            v: self.v,
            bias: self.bias,
        }
    }
}

/// What the heads of a sample need, kept from one to the next.
pub(super) struct Room<'a, T, const R: usize> {
    /// What logits start from, and what is added to them for R queries.
    start: Vec<[T; LANES]>,
    added: Option<Added<'a, T>>,
    starts: Vec<Block<T, R>>,
    /// Where it is drawn which weights stay, head by head and row by row; the numbers of R queries.
    choices: Option<Choices>,
    numbers: Vec<Number>,
    /// Keys and values, and their gradients, by blocks; in slabs.
    keys: Vec<[T; LANES]>,
    values: Vec<[T; LANES]>,
    dk: Vec<[T; LANES]>,
    dv: Vec<[T; LANES]>,
    slabs: Vec<[T; SLAB]>,
    /// Of R queries: themselves, gradients, weights or slopes, results in slabs.
    queries: Vec<[T; R]>,
    gradients: Vec<[T; R]>,
    weights: Vec<Block<T, R>>,
    out: Vec<Slab<T, R>>,
}

impl<'a, T: Real, const R: usize> Room<'a, T, R> {
    pub(super) fn new(problem: &Problem<T>, sample: usize, added: Option<Added<'a, T>>) -> Self {
        let start = problem.starts(sample);
        let blocks = start.len();
        let (size, value_size) = (problem.place(0).size, problem.value_place(0).size);
        let block = |count| vec![[[T::zero(); LANES]; R]; count];
        Self {
            starts: block(if added.is_some() { blocks } else { 0 }),
            start,
            added,
            choices: problem.choices(sample),
            numbers: vec![[0; 2]; R * problem.size.keys + LANES],
            keys: vec![[T::zero(); LANES]; blocks * size],
            values: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
            slabs: Vec::new(),
            queries: vec![[T::zero(); R]; size],
            gradients: vec![[T::zero(); R]; value_size],
            weights: block(blocks),
            out: Vec::new(),
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
        self.block_keys(k, place);
        pack::slabs(v, value_place, problem.make_up(), &mut self.slabs);
        self.out.resize(value_place.slabs(), [[T::zero(); SLAB]; R]);
        for (group, logs) in logs.chunks_mut(R).enumerate() {
            let rows = (group * R, logs.len());
            self.prepare(problem, head, q, rows);
            let done = simd::dispatch(Forward {
                head: Head {
                    queries: &self.queries,
                    keys: &self.keys,
                    start: &self.start,
                    starts: self.added.is_some().then_some(&self.starts),
                    causal: problem.causal.then_some(rows.0),
                },
                values: &self.slabs,
                chosen: chosen(&self.choices, &self.numbers, problem),
                weights: &mut self.weights,
                out: &mut self.out,
            });
            for (r, log) in logs.iter_mut().enumerate() {
                *log = done[r];
                pack::place_row(&self.out, r, value_place.row_mut(out, rows.0 + r));
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
        self.block_keys(given.k, place);
        self.values
            .resize(self.start.len() * value_place.size, [T::zero(); LANES]);
        simd::dispatch(Blocks {
            x: given.v,
            place: value_place,
            factor: problem.make_up(),
            out: &mut self.values,
        });
        pack::slabs(given.k, place, T::one(), &mut self.slabs);
        for (sums, like) in [(&mut self.dk, &self.keys), (&mut self.dv, &self.values)] {
            sums.clear();
            sums.resize(like.len(), [T::zero(); LANES]);
        }
        self.out.resize(place.slabs(), [[T::zero(); SLAB]; R]);
        for (group, of_group) in logs.chunks(R).enumerate() {
            let rows = (group * R, of_group.len());
            self.prepare(problem, head, given.q, rows);
            pack::group(given.g, value_place, rows, T::one(), &mut self.gradients);
            // Behind the end weights are 0.
            let (mut logs, mut mean) = ([T::infinity(); R], [T::zero(); R]);
            logs[..rows.1].copy_from_slice(of_group);
            for r in 0..rows.1 {
                let (g, out) = (
                    value_place.row(given.g, rows.0 + r),
                    value_place.row(given.out, rows.0 + r),
                );
                mean[r] = g.iter().zip(out).map(|(g, y)| *g * *y).sum();
            }
            simd::dispatch(Backward {
                head: Head {
                    queries: &self.queries,
                    keys: &self.keys,
                    start: &self.start,
                    starts: self.added.is_some().then_some(&self.starts),
                    causal: problem.causal.then_some(rows.0),
                },
                logs,
                mean,
                gradients: &self.gradients,
                values: &self.values,
                key_slabs: &self.slabs,
                scale: problem.scale(),
                chosen: chosen(&self.choices, &self.numbers, problem),
                slopes: &mut self.weights,
                dq: &mut self.out,
                dk: &mut self.dk,
                dv: &mut self.dv,
            });
            for r in 0..rows.1 {
                pack::place_row(&self.out, r, place.row_mut(sums.q, rows.0 + r));
                if let Some(added) = self.added.filter(|_| !sums.bias.is_empty()) {
                    let slopes = self.weights.iter().flat_map(|block| block[r]);
                    added.gather(head, rows.0 + r, slopes, sums.bias);
                }
            }
        }
        // Queries were multiplied by the scale and log2 e.
        unblock(&self.dk, place, T::of(std::f64::consts::LN_2), sums.k);
        unblock(&self.dv, value_place, problem.make_up(), sums.v);
    }

    fn block_keys(&mut self, k: &[T], place: Place) {
        simd::dispatch(Blocks {
            x: k,
            place,
            factor: T::one(),
            out: &mut self.keys,
        });
    }

    /// What R queries need: themselves, what their logits start from, which of their weights stay.
    fn prepare(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        q: &[T],
        (first, count): (usize, usize),
    ) {
        let scale = problem.scale() * T::of(std::f64::consts::LOG2_E);
        pack::group(
            q,
            problem.place(head),
            (first, count),
            scale,
            &mut self.queries,
        );
        if let Some(choices) = &mut self.choices {
            choices.draw(&mut self.numbers[..count * problem.size.keys]);
        }
        let Some(added) = &self.added else {
            return;
        };
        for (starts, start) in self.starts.iter_mut().zip(&self.start) {
            // Behind the end too, where the last group's numbers are.
            starts.fill(*start);
        }
        for r in 0..count {
            let places = self.starts.iter_mut().flat_map(|block| &mut block[r]);
            for (to, v) in places.zip(added.row(head, first + r)) {
                *to = if *to < T::zero() { *to } else { v };
            }
        }
    }
}

fn unblock<T: Real>(blocks: &[[T; LANES]], place: Place, factor: T, x: &mut [T]) {
    simd::dispatch(Unblocked {
        blocks,
        place,
        factor,
        x,
    });
}

fn chosen<'a, T>(
    choices: &Option<Choices>,
    numbers: &'a [Number],
    problem: &Problem<T>,
) -> Option<Chosen<'a>> {
    choices.as_ref().map(|choices| Chosen {
        numbers,
        keys: problem.size.keys,
        below: choices.below(),
    })
}
