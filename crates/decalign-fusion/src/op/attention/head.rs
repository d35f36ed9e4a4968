//! The heads of one sample, some queries and some keys at a time.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::random::{Bits, Choices};
use decalign_core::simd::{self, LANES};

use super::Problem;
use super::added::Added;
use super::group::{End, Group, Put};
use super::pack::{Heads, Unblocked};
use super::packed::Packed;
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

/// Which weights of a sample dropout leaves, head by head and row by row.
struct Chosen<'a> {
    choices: Choices,
    /// All of them, where the forward pass kept them.
    kept: Option<&'a Bits>,
    drawn: Bits,
}

impl Chosen<'_> {
    /// Choices that hold those of such numbers.
    fn bits(&mut self, numbers: Range<usize>) -> &Bits {
        self.kept.unwrap_or_else(|| {
            self.choices.bits(numbers, &mut self.drawn);
            &self.drawn
        })
    }
}

/// What the heads of a sample need, kept from one to the next.
///
/// Keys are taken a few blocks at a time, as many as stay near with all that belongs to them, and
/// each time some [groups](Group) of queries pass over them.
pub(super) struct Room<'a, T, const R: usize> {
    packed: Packed<T, R>,
    /// What is added to logits.
    added: Option<Added<'a, T>>,
    /// Which weights dropout leaves.
    chosen: Option<Chosen<'a>>,
    groups: Vec<Group<T, R>>,
    /// Weights or slopes of one group.
    weights: Vec<Block<T, R>>,
}

impl<'a, T: Real, const R: usize> Room<'a, T, R> {
    pub(super) fn new(
        problem: &Problem<T>,
        sample: usize,
        packed: Packed<T, R>,
        (added, kept): (Option<Added<'a, T>>, Option<&'a Bits>),
    ) -> Self {
        let groups = problem.size.queries.div_ceil(R).min(GROUPS);
        Self {
            weights: vec![[[T::zero(); LANES]; R]; packed.start.len()],
            packed,
            added,
            chosen: problem.choices(sample).map(|choices| Chosen {
                choices,
                kept,
                drawn: Bits::default(),
            }),
            groups: (0..groups).map(|_| Group::new()).collect(),
        }
    }

    /// Results of a head, to their place in the rows of `out`, and the logarithms of its sums.
    pub(super) fn forward(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        out: &mut [T],
        logs: &mut [T],
    ) {
        let (place, value_place) = (problem.place(head), problem.value_place(head));
        let at_once = blocks_at_once::<T>(place.size + value_place.size);
        for (pass, logs) in logs.chunks_mut(GROUPS * R).enumerate() {
            let count = self.prepare(problem, head, (pass * GROUPS * R, logs.len()));
            let groups = &mut self.groups[..count];
            groups.iter_mut().for_each(|group| group.begin(value_place));
            for blocks in pieces(self.packed.start.len(), at_once) {
                let keys = self.packed.keys(head, blocks);
                for (g, group) in groups.iter_mut().enumerate() {
                    let queries = self.packed.queries(head, pass * GROUPS + g);
                    group.forward(problem, (queries, &keys), &mut self.weights);
                }
            }
            simd::dispatch(End {
                groups,
                place: value_place,
                out,
                logs,
            });
        }
    }

    /// Gradients of all heads, to their places; `logs` are those of a head.
    pub(super) fn backward<'l>(
        &mut self,
        problem: &Problem<T>,
        given: &Rows<T>,
        logs: impl Fn(usize) -> &'l [T],
        sums: &mut Sums<T>,
    ) where
        T: 'l,
    {
        let [mut dk, mut dv] = self.packed.zeros();
        let (of_k, of_v) = (dk.len() / problem.size.heads, dv.len() / problem.size.heads);
        for head in 0..problem.size.heads {
            let of_head = (
                &mut dk[head * of_k..][..of_k],
                &mut dv[head * of_v..][..of_v],
            );
            self.backward_head(problem, head, (given, logs(head)), sums, of_head);
        }
        // Queries were multiplied by the scale and log2 e.
        let of_k = (problem.heads(), T::of(std::f64::consts::LN_2));
        unblock(&dk, of_k, sums.k);
        unblock(&dv, (problem.value_heads(), problem.make_up()), sums.v);
    }

    /// Gradients of a head's queries to their places, and of its keys and values to blocks.
    fn backward_head(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        (given, logs): (&Rows<T>, &[T]),
        sums: &mut Sums<T>,
        (dk, dv): (&mut [[T; LANES]], &mut [[T; LANES]]),
    ) {
        let (place, value_place) = (problem.place(head), problem.value_place(head));
        let at_once = blocks_at_once::<T>(3 * place.size + 2 * value_place.size);
        for (pass, logs) in logs.chunks(GROUPS * R).enumerate() {
            let count = self.prepare(problem, head, (pass * GROUPS * R, logs.len()));
            let groups = &mut self.groups[..count];
            for (group, logs) in groups.iter_mut().zip(logs.chunks(R)) {
                group.begin(place);
                group.take_results(value_place, given, logs);
            }
            for blocks in pieces(self.packed.start.len(), at_once) {
                let of = |size: usize| blocks.start * size..blocks.end * size;
                let (of_k, of_v) = (of(place.size), of(value_place.size));
                let keys = self.packed.keys(head, blocks.clone());
                let slopes = &mut self.weights[..blocks.len()];
                for (g, group) in groups.iter_mut().enumerate() {
                    let queries = self.packed.queries(head, pass * GROUPS + g);
                    let gradients = self.packed.gradients(head, pass * GROUPS + g);
                    let sums_of = (&mut dk[of_k.clone()], &mut dv[of_v.clone()]);
                    group.backward(problem, (queries, &keys), gradients, slopes, sums_of);
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
            simd::dispatch(Put {
                groups,
                place,
                factor: problem.scale(),
                out: sums.q,
            });
        }
    }

    /// Makes groups of `count` queries from `first` on, and gives their number.
    fn prepare(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        (first, count): (usize, usize),
    ) -> usize {
        let (groups, keys) = (count.div_ceil(R), problem.size.keys);
        let number = |query: usize| (head * problem.size.queries + query) * keys;
        let chosen = self.chosen.as_mut();
        let chosen = chosen.map(|chosen| chosen.bits(number(first)..number(first + count)));
        for (g, group) in self.groups[..groups].iter_mut().enumerate() {
            let rows = (first + g * R, R.min(count - g * R));
            let queries = &mut group.queries;
            queries.take(rows, chosen.map(|bits| (bits, number(rows.0), keys)));
            queries.set_starts(problem, (self.added, head), &self.packed.start);
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

fn unblock<T: Real>(blocks: &[[T; LANES]], (heads, factor): (Heads, T), x: &mut [T]) {
    simd::dispatch(Unblocked {
        blocks,
        heads,
        factor,
        x,
    });
}
