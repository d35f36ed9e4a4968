//! The attention loops of one sample: some groups of queries over some blocks of keys at a time.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::random::{Bits, Choices};
use decalign_core::simd::{self, LANES};

use super::bias::SampleBias;
use super::layout::{Heads, Unblocked};
use super::packed::PackedSample;
use super::problem::Problem;
use super::query_group::{Finish, QueryGroup, StoreSums};
use super::tile::Block;

/// Groups of queries that pass over a range of keys while it is in the cache.
const GROUPS: usize = 16;

/// Queries, keys, values, result and its gradient of one sample, in rows.
pub(super) struct SampleInputs<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) out: &'a [T],
    pub(super) g: &'a [T],
}

/// The gradients of one sample, in rows; that of the bias is empty unless needed.
pub(super) struct SampleGradients<'a, T> {
    pub(super) q: &'a mut [T],
    pub(super) k: &'a mut [T],
    pub(super) v: &'a mut [T],
    pub(super) bias: &'a mut [T],
}

impl<T> SampleGradients<'_, T> {
    /// A reborrow.
    pub(super) fn reborrow(&mut self) -> SampleGradients<'_, T> {
        SampleGradients {
            q: self.q,
            k: self.k,
            v: self.v,
            bias: self.bias,
        }
    }
}

/// The weights of a sample that dropout keeps, head by head and row by row.
struct DropoutBits<'a> {
    choices: Choices,
    /// All of them, if the forward pass stored them.
    stored: Option<&'a Bits>,
    drawn: Bits,
}

impl DropoutBits<'_> {
    /// Bits that include those of these indices.
    fn bits(&mut self, indices: Range<usize>) -> &Bits {
        self.stored.unwrap_or_else(|| {
            self.choices.bits(indices, &mut self.drawn);
            &self.drawn
        })
    }
}

/// Operands and buffers for the heads of one sample.
///
/// Keys are processed a range of blocks at a time, as many as fit into the cache with their operands, and [`GROUPS`]
/// [groups](QueryGroup) of queries pass over each range. Sums over keys are complete after the last range.
pub(super) struct Workspace<'a, T, const R: usize> {
    packed: PackedSample<T, R>,
    /// Added to the logits.
    bias: Option<SampleBias<'a, T>>,
    dropout: Option<DropoutBits<'a>>,
    groups: Vec<QueryGroup<T, R>>,
    /// Weights, or gradients of logits, of one group.
    weights: Vec<Block<T, R>>,
}

impl<'a, T: Real, const R: usize> Workspace<'a, T, R> {
    pub(super) fn new(
        problem: &Problem<T>,
        sample: usize,
        packed: PackedSample<T, R>,
        (bias, stored): (Option<SampleBias<'a, T>>, Option<&'a Bits>),
    ) -> Self {
        let groups = problem.shape.queries.div_ceil(R).min(GROUPS);
        Self {
            weights: vec![[[T::zero(); LANES]; R]; packed.initial_logits.len()],
            packed,
            bias,
            dropout: problem.choices(sample).map(|choices| DropoutBits {
                choices,
                stored,
                drawn: Bits::default(),
            }),
            groups: (0..groups).map(|_| QueryGroup::new()).collect(),
        }
    }

    /// Writes the results of a head to the rows of `out`, and the logarithms of its sums of weights to `logs`.
    pub(super) fn forward(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        out: &mut [T],
        logs: &mut [T],
    ) {
        let (layout, value_layout) = (problem.layout(head), problem.value_layout(head));
        let at_once = blocks_at_once::<T>(layout.size + value_layout.size);
        for (pass, logs) in logs.chunks_mut(GROUPS * R).enumerate() {
            let count = self.set_groups(problem, head, (pass * GROUPS * R, logs.len()));
            let groups = &mut self.groups[..count];
            groups
                .iter_mut()
                .for_each(|group| group.reset(value_layout));
            for blocks in ranges(self.packed.initial_logits.len(), at_once) {
                let keys = self.packed.keys(head, blocks);
                for (g, group) in groups.iter_mut().enumerate() {
                    let queries = self.packed.queries(head, pass * GROUPS + g);
                    group.forward(problem, (queries, &keys), &mut self.weights);
                }
            }
            simd::dispatch(Finish {
                groups,
                layout: value_layout,
                out,
                logs,
            });
        }
    }

    /// Adds the gradients of all heads to `sums`; `logs(head)` are those of the forward pass.
    pub(super) fn backward<'l>(
        &mut self,
        problem: &Problem<T>,
        given: &SampleInputs<T>,
        logs: impl Fn(usize) -> &'l [T],
        sums: &mut SampleGradients<T>,
    ) where
        T: 'l,
    {
        let [mut dk, mut dv] = self.packed.zeros();
        let (of_k, of_v) = (
            dk.len() / problem.shape.heads,
            dv.len() / problem.shape.heads,
        );
        for head in 0..problem.shape.heads {
            let of_head = (
                &mut dk[head * of_k..][..of_k],
                &mut dv[head * of_v..][..of_v],
            );
            self.backward_head(problem, head, (given, logs(head)), sums, of_head);
        }
        // The packed queries are multiplied by scale and log2 e.
        let of_k = (problem.heads(), T::of(std::f64::consts::LN_2));
        store_blocks(&dk, of_k, sums.k);
        store_blocks(
            &dv,
            (problem.value_heads(), problem.dropout_scale()),
            sums.v,
        );
    }

    /// Stores the gradients of the queries of a head, and adds those of its keys and values, in blocks.
    fn backward_head(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        (given, logs): (&SampleInputs<T>, &[T]),
        sums: &mut SampleGradients<T>,
        (dk, dv): (&mut [[T; LANES]], &mut [[T; LANES]]),
    ) {
        let (layout, value_layout) = (problem.layout(head), problem.value_layout(head));
        let at_once = blocks_at_once::<T>(3 * layout.size + 2 * value_layout.size);
        for (pass, logs) in logs.chunks(GROUPS * R).enumerate() {
            let count = self.set_groups(problem, head, (pass * GROUPS * R, logs.len()));
            let groups = &mut self.groups[..count];
            for (group, logs) in groups.iter_mut().zip(logs.chunks(R)) {
                group.reset(layout);
                group.set_results(value_layout, given, logs);
            }
            for blocks in ranges(self.packed.initial_logits.len(), at_once) {
                let of = |size: usize| blocks.start * size..blocks.end * size;
                let (of_k, of_v) = (of(layout.size), of(value_layout.size));
                let keys = self.packed.keys(head, blocks.clone());
                let d_logits = &mut self.weights[..blocks.len()];
                for (g, group) in groups.iter_mut().enumerate() {
                    let queries = self.packed.queries(head, pass * GROUPS + g);
                    let gradients = self.packed.gradients(head, pass * GROUPS + g);
                    let sums_of = (&mut dk[of_k.clone()], &mut dv[of_v.clone()]);
                    group.backward(problem, (queries, &keys), gradients, d_logits, sums_of);
                    let Some(bias) = self.bias.filter(|_| !sums.bias.is_empty()) else {
                        continue;
                    };
                    for r in 0..group.queries.count {
                        let (query, first) = (group.queries.first + r, blocks.start * LANES);
                        let d_logits = d_logits.iter().flat_map(|block| block[r]);
                        bias.add_gradient((head, query), first, d_logits, sums.bias);
                    }
                }
            }
            simd::dispatch(StoreSums {
                groups,
                layout,
                factor: problem.scale(),
                out: sums.q,
            });
        }
    }

    /// Sets up groups for `count` queries from `first` on; returns the number of groups.
    fn set_groups(
        &mut self,
        problem: &Problem<T>,
        head: usize,
        (first, count): (usize, usize),
    ) -> usize {
        let (groups, keys) = (count.div_ceil(R), problem.shape.keys);
        let index = |query: usize| (head * problem.shape.queries + query) * keys;
        let kept = self.dropout.as_mut();
        let kept = kept.map(|dropout| dropout.bits(index(first)..index(first + count)));
        for (g, group) in self.groups[..groups].iter_mut().enumerate() {
            let rows = (first + g * R, R.min(count - g * R));
            let queries = &mut group.queries;
            queries.set(rows, kept.map(|bits| (bits, index(rows.0), keys)));
            queries.set_initial_logits(problem, (self.bias, head), &self.packed.initial_logits);
        }
        groups
    }
}

/// The number of blocks of keys in a range, for keys of this many operands.
fn blocks_at_once<T>(operands: usize) -> usize {
    // 64 KiB, a part of the L2 cache. Smaller ranges rescale by a new largest logit more often (measured).
    (65_536 / (operands * LANES * size_of::<T>()).max(1)).max(1)
}

/// `0..count` in ranges of `size`.
fn ranges(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count)
        .step_by(size)
        .map(move |first| first..count.min(first + size))
}

fn store_blocks<T: Real>(blocks: &[[T; LANES]], (heads, factor): (Heads, T), x: &mut [T]) {
    simd::dispatch(Unblocked {
        blocks,
        heads,
        factor,
        x,
    });
}
