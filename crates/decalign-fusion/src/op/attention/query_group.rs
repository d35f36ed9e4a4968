//! A group of R queries and its running sums over the blocks of keys.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::random::Bits;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::bias::SampleBias;
use super::layout::{HeadLayout, SLAB, StoreSlabs};
use super::problem::Problem;
use super::tile::{Backward, Block, Forward, OnlineSoftmax, Slab, Tile};
use super::workspace::SampleInputs;

/// A range of the blocks of keys of a head, with their operands.
#[derive(Clone)]
pub(super) struct KeyBlocks<'a, T> {
    pub(super) blocks: Range<usize>,
    pub(super) keys: &'a [[T; LANES]],
    /// See [`initial_logits`](super::layout::initial_logits).
    pub(super) initial_logits: &'a [[T; LANES]],
    /// True if logits are small, without a bias.
    pub(super) small: bool,
    /// The operand that is summed over keys: values, or keys in the backward pass.
    pub(super) slabs: &'a [[T; SLAB]],
    /// In the layout of the keys, in the backward pass.
    pub(super) values: Option<&'a [[T; LANES]]>,
}

/// R queries, or fewer in the last group.
pub(super) struct Queries<T, const R: usize> {
    /// The index of the first query, and their number.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Initial values of the logits where queries differ: causal attention, or a bias.
    initial_logits: Vec<Block<T, R>>,
    /// The weights that dropout keeps, block after block; empty without dropout.
    kept_bits: Vec<[u16; R]>,
}

impl<T: Real, const R: usize> Queries<T, R> {
    /// Sets `count` queries from `first` on, and the weights that dropout keeps: the bits, the index of the first one, and the number of
    /// keys.
    pub(super) fn set(
        &mut self,
        (first, count): (usize, usize),
        kept: Option<(&Bits, usize, usize)>,
    ) {
        (self.first, self.count) = (first, count);
        if let Some((bits, index, keys)) = kept {
            bits.rows(index, (count, keys), &mut self.kept_bits);
        }
    }

    /// Sets the initial values of the logits, `initial` where queries do not differ.
    pub(super) fn set_initial_logits(
        &mut self,
        problem: &Problem<T>,
        (bias, head): (Option<SampleBias<T>>, usize),
        initial: &[[T; LANES]],
    ) {
        self.initial_logits.clear();
        if bias.is_none() && !problem.causal {
            return;
        }
        // For all R queries, also the unused ones of the last group.
        self.initial_logits
            .extend(initial.iter().map(|initial| [*initial; R]));
        for r in 0..self.count {
            let query = self.first + r;
            let logits = self
                .initial_logits
                .iter_mut()
                .flat_map(|block| &mut block[r]);
            if problem.causal {
                logits.skip(query + 1).for_each(|x| *x = T::neg_infinity());
            }
            let logits = self
                .initial_logits
                .iter_mut()
                .flat_map(|block| &mut block[r]);
            let Some(bias) = bias else { continue };
            for (to, v) in logits.zip(bias.row(head, query)) {
                *to = if *to < T::zero() { *to } else { v };
            }
        }
    }

    fn tile<'a>(
        &'a self,
        problem: &Problem<T>,
        (queries, keys): (&'a [[T; R]], &KeyBlocks<'a, T>),
    ) -> Tile<'a, T, R> {
        let last = match problem.causal {
            true => (self.first + R).div_ceil(LANES),
            false => keys.blocks.end,
        };
        Tile {
            queries,
            keys: keys.keys,
            initial_logits: keys.initial_logits,
            query_logits: self.initial_logits.get(keys.blocks.clone()),
            blocks: last.min(keys.blocks.end).saturating_sub(keys.blocks.start),
            small: keys.small,
        }
    }

    fn kept(&self, keys: &KeyBlocks<T>) -> Option<&[[u16; R]]> {
        self.kept_bits.get(keys.blocks.clone())
    }
}

/// The results of the forward pass that the backward pass needs.
struct ForwardResults<T, const R: usize> {
    /// Logarithms (base 2) of the sums of weights.
    logs: [T; R],
    /// The inner product of each result with its gradient.
    mean: [T; R],
}

/// R queries and their running sums.
pub(super) struct QueryGroup<T, const R: usize> {
    pub(super) queries: Queries<T, R>,
    results: ForwardResults<T, R>,
    softmax: OnlineSoftmax<T, R>,
    /// Sums over the keys so far, in slabs: results, or gradients of the queries.
    sums: Vec<Slab<T, R>>,
}

impl<T: Real, const R: usize> QueryGroup<T, R> {
    pub(super) fn new() -> Self {
        Self {
            queries: Queries {
                first: 0,
                count: 0,
                initial_logits: Vec::new(),
                kept_bits: Vec::new(),
            },
            results: ForwardResults {
                logs: [T::zero(); R],
                mean: [T::zero(); R],
            },
            softmax: OnlineSoftmax::new(),
            sums: Vec::new(),
        }
    }

    /// Resets the running sums; `layout` is theirs.
    pub(super) fn reset(&mut self, layout: HeadLayout) {
        self.softmax = OnlineSoftmax::new();
        self.sums.clear();
        self.sums
            .resize(layout.size.div_ceil(SLAB), [[T::zero(); SLAB]; R]);
    }

    /// Sets what the backward pass needs of the results.
    pub(super) fn set_results(&mut self, layout: HeadLayout, given: &SampleInputs<T>, logs: &[T]) {
        let (results, queries) = (&mut self.results, &self.queries);
        // Unused queries get weights of 0.
        (results.logs, results.mean) = ([T::infinity(); R], [T::zero(); R]);
        results.logs[..logs.len()].copy_from_slice(logs);
        for r in 0..queries.count {
            let (g, y) = (
                layout.row(given.g, queries.first + r),
                layout.row(given.out, queries.first + r),
            );
            results.mean[r] = g.iter().zip(y).map(|(g, y)| *g * *y).sum();
        }
    }

    pub(super) fn forward(
        &mut self,
        problem: &Problem<T>,
        (queries, keys): (&[[T; R]], &KeyBlocks<T>),
        weights: &mut [Block<T, R>],
    ) {
        simd::dispatch(Forward {
            tile: self.queries.tile(problem, (queries, keys)),
            values: (keys.slabs, problem.value_heads().size),
            kept: self.queries.kept(keys),
            weights,
            softmax: &mut self.softmax,
            out: &mut self.sums,
        });
    }

    /// Writes the gradients of the logits to `d_logits`, and adds those of keys and values.
    pub(super) fn backward(
        &mut self,
        problem: &Problem<T>,
        (queries, keys): (&[[T; R]], &KeyBlocks<T>),
        gradients: &[[T; R]],
        d_logits: &mut [Block<T, R>],
        (dk, dv): (&mut [[T; LANES]], &mut [[T; LANES]]),
    ) {
        simd::dispatch(Backward {
            tile: self.queries.tile(problem, (queries, keys)),
            logs: self.results.logs,
            mean: self.results.mean,
            gradients,
            values: keys.values.unwrap_or_default(),
            key_slabs: keys.slabs,
            kept: self.queries.kept(keys),
            d_logits,
            dq: &mut self.sums,
            dk,
            dv,
        });
    }

    #[inline(always)]
    fn store<'a>(
        &'a self,
        layout: HeadLayout,
        factors: [T; SLAB],
        out: &'a mut [T],
    ) -> StoreSlabs<'a, T, R> {
        StoreSlabs {
            slabs: &self.sums,
            factors,
            layout,
            rows: (self.queries.first, self.queries.count),
            out,
        }
    }
}

/// Finishes some groups: divides results by the sums of weights, stores them and the logarithms of the sums. Several groups at once hide
/// the latency of the divisions and logarithms of one.
pub(super) struct Finish<'a, T, const R: usize> {
    pub(super) groups: &'a [QueryGroup<T, R>],
    pub(super) layout: HeadLayout,
    pub(super) out: &'a mut [T],
    pub(super) logs: &'a mut [T],
}

impl<T: Real, const R: usize> Kernel for Finish<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (group, logs) in self.groups.iter().zip(self.logs.chunks_mut(R)) {
            let (scale, group_logs) = group.softmax.finish(isa);
            logs.copy_from_slice(&group_logs[..logs.len()]);
            group.store(self.layout, scale, self.out).run(isa);
        }
    }
}

/// Stores the sums of some groups, times a factor.
pub(super) struct StoreSums<'a, T, const R: usize> {
    pub(super) groups: &'a [QueryGroup<T, R>],
    pub(super) layout: HeadLayout,
    pub(super) factor: T,
    pub(super) out: &'a mut [T],
}

impl<T: Real, const R: usize> Kernel for StoreSums<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for group in self.groups {
            let store = group.store(self.layout, [self.factor; SLAB], self.out);
            store.run(isa);
        }
    }
}
