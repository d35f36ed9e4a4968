//! The heads of one sample, some queries and some keys at a time.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::random::Choices;
use decalign_core::simd::{self, LANES};

use super::Problem;
use super::added::Added;
use super::group::{Group, Keys};
use super::pack::{self, Blocks, Place, SLAB, Unblocked};
use super::tiles::Block;

/// How many groups of queries pass over keys while those are near.
const GROUPS: usize = 16;

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
///
/// Keys are taken a few blocks at a time, as many as stay near with all that belongs to them, and
/// each time some [groups](Group) of queries pass over them.
pub(super) struct Room<'a, T, const R: usize> {
    /// What logits start from, and what is added to them.
    start: Vec<[T; LANES]>,
    added: Option<Added<'a, T>>,
    /// Where it is drawn which weights stay, head by head and row by row.
    choices: Option<Choices>,
    /// Keys and values, and their gradients, by blocks; in slabs.
    keys: Vec<[T; LANES]>,
    values: Vec<[T; LANES]>,
    dk: Vec<[T; LANES]>,
    dv: Vec<[T; LANES]>,
    slabs: Vec<[T; SLAB]>,
    groups: Vec<Group<T, R>>,
    /// Weights or slopes of one group.
    weights: Vec<Block<T, R>>,
}

impl<'a, T: Real, const R: usize> Room<'a, T, R> {
    pub(super) fn new(problem: &Problem<T>, sample: usize, added: Option<Added<'a, T>>) -> Self {
        let start = problem.starts(sample);
        let groups = problem.size.queries.div_ceil(R).min(GROUPS);
        Self {
            keys: vec![[T::zero(); LANES]; start.len() * problem.place(0).size],
            weights: vec![[[T::zero(); LANES]; R]; start.len()],
            start,
            added,
            choices: problem.choices(sample),
            values: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
            slabs: Vec::new(),
            groups: (0..groups).map(|_| Group::new()).collect(),
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
        block_rows(k, place, T::one(), &mut self.keys);
        pack::slabs(v, value_place, problem.make_up(), &mut self.slabs);
        let at_once = blocks_at_once::<T>(place.size + value_place.size);
        for (pass, logs) in logs.chunks_mut(GROUPS * R).enumerate() {
            let count = self.prepare(problem, head, q, (pass * GROUPS * R, logs.len()));
            let groups = &mut self.groups[..count];
            groups.iter_mut().for_each(|group| group.begin(value_place));
            for blocks in pieces(self.start.len(), at_once) {
                let keys = keys_of(&self.keys, &self.start, &self.slabs, blocks);
                for group in &mut *groups {
                    group.forward(problem, &keys, &mut self.weights);
                }
            }
            for (group, logs) in groups.iter().zip(logs.chunks_mut(R)) {
                group.end(value_place, out, logs);
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
        block_rows(given.k, place, T::one(), &mut self.keys);
        let rows = self.start.len() * value_place.size;
        self.values.resize(rows, [T::zero(); LANES]);
        block_rows(given.v, value_place, problem.make_up(), &mut self.values);
        pack::slabs(given.k, place, T::one(), &mut self.slabs);
        for (sums, like) in [(&mut self.dk, &self.keys), (&mut self.dv, &self.values)] {
            sums.clear();
            sums.resize(like.len(), [T::zero(); LANES]);
        }
        let at_once = blocks_at_once::<T>(3 * place.size + 2 * value_place.size);
        for (pass, logs) in logs.chunks(GROUPS * R).enumerate() {
            let count = self.prepare(problem, head, given.q, (pass * GROUPS * R, logs.len()));
            let groups = &mut self.groups[..count];
            for (group, logs) in groups.iter_mut().zip(logs.chunks(R)) {
                group.begin(place);
                group.take_results(value_place, given, logs);
            }
            for blocks in pieces(self.start.len(), at_once) {
                let keys = keys_of(&self.keys, &self.start, &self.slabs, blocks.clone());
                let of = |size: usize| blocks.start * size..blocks.end * size;
                let (of_k, of_v) = (of(place.size), of(value_place.size));
                let (values, slopes) = (&self.values[of_v.clone()], &mut self.weights);
                let slopes = &mut slopes[..blocks.len()];
                for group in &mut *groups {
                    let gradients = (&mut self.dk[of_k.clone()], &mut self.dv[of_v.clone()]);
                    group.backward(problem, &keys, values, slopes, gradients);
                    let Some(added) = self.added.filter(|_| !sums.bias.is_empty()) else {
                        continue;
                    };
                    for r in 0..group.queries.count {
                        let (query, first) = (group.queries.first + r, blocks.start * LANES);
                        let slopes = slopes.iter().flat_map(|block| block[r]);
                        added.gather((head, query), first, slopes, sums.bias);
                    }
                }
            }
            for group in groups {
                group.put(place, [problem.scale(); R], sums.q);
            }
        }
        // Queries were multiplied by the scale and log2 e.
        unblock(&self.dk, place, T::of(std::f64::consts::LN_2), sums.k);
        unblock(&self.dv, value_place, problem.make_up(), sums.v);
    }

    /// Makes groups of `count` queries from `first` on, and gives their number.
    fn prepare(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        q: &[T],
        (first, count): (usize, usize),
    ) -> usize {
        let groups = count.div_ceil(R);
        for (g, group) in self.groups[..groups].iter_mut().enumerate() {
            let rows = (first + g * R, R.min(count - g * R));
            let queries = &mut group.queries;
            queries.take(problem, head, q, rows, self.choices.as_mut());
            if let Some(added) = self.added {
                queries.add(added, head, &self.start);
            }
        }
        groups
    }
}

/// How many blocks of keys are taken at once, `numbers` being what each key has.
fn blocks_at_once<T>(numbers: usize) -> usize {
    // 64 KiB, a part of the second cache: smaller pieces count anew of the largest logit more often (measured).
    (65_536 / (numbers * LANES * size_of::<T>()).max(1)).max(1)
}

/// `0..count` in pieces of `size`.
fn pieces(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count)
        .step_by(size)
        .map(move |first| first..count.min(first + size))
}

/// Some of all blocks, and what belongs to them.
fn keys_of<'a, T>(
    keys: &'a [[T; LANES]],
    start: &'a [[T; LANES]],
    slabs: &'a [[T; SLAB]],
    blocks: Range<usize>,
) -> Keys<'a, T> {
    let all = start.len().max(1);
    let of = |length: usize| blocks.start * (length / all)..blocks.end * (length / all);
    Keys {
        keys: &keys[of(keys.len())],
        start: &start[blocks.clone()],
        slabs: &slabs[of(slabs.len())],
        blocks,
    }
}

fn block_rows<T: Real>(x: &[T], place: Place, factor: T, out: &mut [[T; LANES]]) {
    simd::dispatch(Blocks {
        x,
        place,
        factor,
        out,
    });
}

fn unblock<T: Real>(blocks: &[[T; LANES]], place: Place, factor: T, x: &mut [T]) {
    simd::dispatch(Unblocked {
        blocks,
        place,
        factor,
        x,
    });
}
