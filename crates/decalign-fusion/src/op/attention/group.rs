//! R queries, and what they gather on their way over the keys.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::random::Bits;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::Problem;
use super::added::Added;
use super::head::Rows;
use super::pack::{Place, Placed, SLAB};
use super::tiles::{Backward, Block, Forward, Head, Seen, Slab};

/// Some blocks of a head's keys and what belongs to them.
#[derive(Clone)]
pub(super) struct Keys<'a, T> {
    pub(super) blocks: Range<usize>,
    pub(super) keys: &'a [[T; LANES]],
    /// What logits start from.
    pub(super) start: &'a [[T; LANES]],
    /// Whether logits are small, as long as nothing is added to them.
    pub(super) small: bool,
    /// What is summed over keys: values, and in the backward pass the keys.
    pub(super) slabs: &'a [[T; SLAB]],
    /// As the keys, in the backward pass.
    pub(super) values: Option<&'a [[T; LANES]]>,
}

/// R queries, or fewer behind the end.
pub(super) struct Queries<T, const R: usize> {
    /// The first one's number, and how many there are.
    pub(super) first: usize,
    pub(super) count: usize,
    /// What the logits start from, where something is added to them.
    starts: Vec<Block<T, R>>,
    /// Which weights stay, block after block; empty where all do.
    bits: Vec<[u16; R]>,
}

impl<T: Real, const R: usize> Queries<T, R> {
    /// Takes `count` rows from `first` on, and which of their weights stay: choices, the number of the first one and how
    /// many a row has.
    pub(super) fn take(
        &mut self,
        (first, count): (usize, usize),
        chosen: Option<(&Bits, usize, usize)>,
    ) {
        (self.first, self.count) = (first, count);
        if let Some((bits, number, keys)) = chosen {
            bits.rows(number, (count, keys), &mut self.bits);
        }
    }

    /// Sets what the logits start from, which is `start` where queries do not differ.
    pub(super) fn set_starts(
        &mut self,
        problem: &Problem<T>,
        (added, head): (Option<Added<T>>, usize),
        start: &[[T; LANES]],
    ) {
        self.starts.clear();
        if added.is_none() && !problem.causal {
            return;
        }
        // Behind the end too, where the last group's numbers are.
        self.starts.extend(start.iter().map(|start| [*start; R]));
        for r in 0..self.count {
            let query = self.first + r;
            let places = self.starts.iter_mut().flat_map(|block| &mut block[r]);
            if problem.causal {
                places.skip(query + 1).for_each(|x| *x = T::neg_infinity());
            }
            let places = self.starts.iter_mut().flat_map(|block| &mut block[r]);
            let Some(added) = added else { continue };
            for (to, v) in places.zip(added.row(head, query)) {
                *to = if *to < T::zero() { *to } else { v };
            }
        }
    }

    fn before<'a>(
        &'a self,
        problem: &Problem<T>,
        (queries, keys): (&'a [[T; R]], &Keys<'a, T>),
    ) -> Head<'a, T, R> {
        let seen = match problem.causal {
            true => (self.first + R).div_ceil(LANES),
            false => keys.blocks.end,
        };
        Head {
            queries,
            keys: keys.keys,
            start: keys.start,
            starts: self.starts.get(keys.blocks.clone()),
            blocks: seen.min(keys.blocks.end).saturating_sub(keys.blocks.start),
            small: keys.small,
        }
    }

    fn chosen(&self, keys: &Keys<T>) -> Option<&[[u16; R]]> {
        self.bits.get(keys.blocks.clone())
    }
}

/// What R results were.
struct Results<T, const R: usize> {
    /// Of the sums of weights.
    logs: [T; R],
    /// The results times their gradients.
    mean: [T; R],
}

/// R queries on their way over the keys.
pub(super) struct Group<T, const R: usize> {
    pub(super) queries: Queries<T, R>,
    results: Results<T, R>,
    seen: Seen<T, R>,
    /// Sums over the keys seen, in slabs: results, or gradients of the queries.
    sums: Vec<Slab<T, R>>,
}

impl<T: Real, const R: usize> Group<T, R> {
    pub(super) fn new() -> Self {
        Self {
            queries: Queries {
                first: 0,
                count: 0,
                starts: Vec::new(),
                bits: Vec::new(),
            },
            results: Results {
                logs: [T::zero(); R],
                mean: [T::zero(); R],
            },
            seen: Seen::new(),
            sums: Vec::new(),
        }
    }

    /// Before the first keys; `place` is that of the sums.
    pub(super) fn begin(&mut self, place: Place) {
        self.seen = Seen::new();
        self.sums.clear();
        self.sums
            .resize(place.size.div_ceil(SLAB), [[T::zero(); SLAB]; R]);
    }

    /// Takes what the backward pass needs of the results.
    pub(super) fn take_results(&mut self, place: Place, given: &Rows<T>, logs: &[T]) {
        let (results, queries) = (&mut self.results, &self.queries);
        // Behind the end weights are 0.
        (results.logs, results.mean) = ([T::infinity(); R], [T::zero(); R]);
        results.logs[..logs.len()].copy_from_slice(logs);
        for r in 0..queries.count {
            let (g, y) = (
                place.row(given.g, queries.first + r),
                place.row(given.out, queries.first + r),
            );
            results.mean[r] = g.iter().zip(y).map(|(g, y)| *g * *y).sum();
        }
    }

    pub(super) fn forward(
        &mut self,
        problem: &Problem<T>,
        (queries, keys): (&[[T; R]], &Keys<T>),
        weights: &mut [Block<T, R>],
    ) {
        simd::dispatch(Forward {
            head: self.queries.before(problem, (queries, keys)),
            values: (keys.slabs, problem.value_heads().size),
            chosen: self.queries.chosen(keys),
            weights,
            seen: &mut self.seen,
            out: &mut self.sums,
        });
    }

    /// Slopes come back in `slopes`; gradients of keys and values are added to.
    pub(super) fn backward(
        &mut self,
        problem: &Problem<T>,
        (queries, keys): (&[[T; R]], &Keys<T>),
        gradients: &[[T; R]],
        slopes: &mut [Block<T, R>],
        (dk, dv): (&mut [[T; LANES]], &mut [[T; LANES]]),
    ) {
        simd::dispatch(Backward {
            head: self.queries.before(problem, (queries, keys)),
            logs: self.results.logs,
            mean: self.results.mean,
            gradients,
            values: keys.values.unwrap_or_default(),
            key_slabs: keys.slabs,
            chosen: self.queries.chosen(keys),
            slopes,
            dq: &mut self.sums,
            dk,
            dv,
        });
    }

    #[inline(always)]
    fn placed<'a>(
        &'a self,
        place: Place,
        factors: [T; SLAB],
        out: &'a mut [T],
    ) -> Placed<'a, T, R> {
        Placed {
            slabs: &self.sums,
            factors,
            place,
            rows: (self.queries.first, self.queries.count),
            out,
        }
    }
}

/// The end of the way over the keys for some groups at once, each of which alone would wait for one number after the
/// other: results to their places, and the logarithms of the sums of their weights.
pub(super) struct End<'a, T, const R: usize> {
    pub(super) groups: &'a [Group<T, R>],
    pub(super) place: Place,
    pub(super) out: &'a mut [T],
    pub(super) logs: &'a mut [T],
}

impl<T: Real, const R: usize> Kernel for End<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (group, logs) in self.groups.iter().zip(self.logs.chunks_mut(R)) {
            let (scale, of_group) = group.seen.end(isa);
            logs.copy_from_slice(&of_group[..logs.len()]);
            group.placed(self.place, scale, self.out).run(isa);
        }
    }
}

/// Sums of some groups, times a factor, to their places.
pub(super) struct Put<'a, T, const R: usize> {
    pub(super) groups: &'a [Group<T, R>],
    pub(super) place: Place,
    pub(super) factor: T,
    pub(super) out: &'a mut [T],
}

impl<T: Real, const R: usize> Kernel for Put<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for group in self.groups {
            let placed = group.placed(self.place, [self.factor; SLAB], self.out);
            placed.run(isa);
        }
    }
}
