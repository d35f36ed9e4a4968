//! Queries, keys and values of one sample in the order in which the loops read them.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::simd::{self, LANES};

use super::layout::{Blocks, Heads, LargestSquare, QUAD, SLAB, Slabs, quads};
use super::problem::Problem;
use super::query_group::KeyBlocks;
use super::workspace::SampleInputs;

/// All heads of one sample, in groups of R queries and blocks of [`LANES`] keys.
pub(super) struct PackedSample<T, const R: usize> {
    heads: Heads,
    value_heads: Heads,
    /// See [`initial_logits`](super::layout::initial_logits).
    pub(super) initial_logits: Vec<[T; LANES]>,
    /// Multiplied by scale and log2 e.
    queries: Vec<[T; R]>,
    keys: Vec<[T; LANES]>,
    /// True if the logits of each head are small.
    small: Vec<bool>,
    /// The operand that is summed over keys, in slabs or quads: values, or keys in the backward pass.
    slabs: Vec<[T; SLAB]>,
    backward: Option<BackwardOperands<T, R>>,
}

/// Operands of the backward pass alone.
struct BackwardOperands<T, const R: usize> {
    /// Multiplied by `1 / (1 - p)`.
    values: Vec<[T; LANES]>,
    /// Gradients of the results.
    gradients: Vec<[T; R]>,
}

impl<T: Real, const R: usize> PackedSample<T, R> {
    /// The operands of the forward pass.
    pub(super) fn forward(
        problem: &Problem<T>,
        sample: usize,
        (q, k, v): (&[T], &[T], &[T]),
    ) -> Self {
        let (heads, factor) = (problem.value_heads(), problem.dropout_scale());
        let mut packed = Self::logits(problem, sample, (q, k));
        // With weights that are not counted from the largest, large and tiny values would leave the range of f32; NaN is not small.
        let squares = simd::sum_squares(v);
        if (T::of(1e-20)..=T::of(1e20)).contains(&squares) {
            packed.small = small(&packed.queries, &packed.keys, packed.heads);
        }
        Self {
            slabs: match heads.size <= QUAD {
                true => quads(&blocks(v, heads, factor), heads.size),
                false => slabs(v, heads, factor),
            },
            ..packed
        }
    }

    /// The operands of the backward pass.
    pub(super) fn backward(problem: &Problem<T>, sample: usize, given: &SampleInputs<T>) -> Self {
        let heads = problem.value_heads();
        let packed = Self::logits(problem, sample, (given.q, given.k));
        Self {
            slabs: match problem.heads().size <= QUAD {
                true => quads(&packed.keys, problem.heads().size),
                false => slabs(given.k, problem.heads(), T::one()),
            },
            backward: Some(BackwardOperands {
                values: blocks(given.v, heads, problem.dropout_scale()),
                gradients: blocks(given.g, heads, T::one()),
            }),
            ..packed
        }
    }

    fn logits(problem: &Problem<T>, sample: usize, (q, k): (&[T], &[T])) -> Self {
        let scale = problem.scale() * T::of(std::f64::consts::LOG2_E);
        let (heads, queries) = (problem.heads(), blocks(q, problem.heads(), scale));
        let keys = blocks(k, heads, T::one());
        Self {
            heads,
            value_heads: problem.value_heads(),
            initial_logits: problem.initial_logits(sample),
            // Computed in the forward pass only.
            small: vec![false; heads.count],
            queries,
            keys,
            slabs: Vec::new(),
            backward: None,
        }
    }

    /// The queries of a group.
    pub(super) fn queries(&self, head: usize, group: usize) -> &[[T; R]] {
        of_group(&self.queries, self.heads, (head, group))
    }

    /// The gradients of the results of a group.
    pub(super) fn gradients(&self, head: usize, group: usize) -> &[[T; R]] {
        let gradients = self
            .backward
            .as_ref()
            .map(|operands| &operands.gradients[..]);
        of_group(
            gradients.unwrap_or_default(),
            self.value_heads,
            (head, group),
        )
    }

    /// A range of the blocks of keys of a head, with their operands.
    pub(super) fn keys(&self, head: usize, blocks: Range<usize>) -> KeyBlocks<'_, T> {
        let backward = self.backward.as_ref();
        KeyBlocks {
            keys: self.of_blocks(&self.keys, head, &blocks),
            initial_logits: &self.initial_logits[blocks.clone()],
            small: self.small[head],
            slabs: self.of_blocks(&self.slabs, head, &blocks),
            values: backward.map(|operands| self.of_blocks(&operands.values, head, &blocks)),
            blocks,
        }
    }

    /// The rows of `x` of these blocks of a head.
    fn of_blocks<'a, X>(&self, x: &'a [X], head: usize, blocks: &Range<usize>) -> &'a [X] {
        let all = self.initial_logits.len();
        let each = x.len() / (self.heads.count * all).max(1);
        &x[(head * all + blocks.start) * each..(head * all + blocks.end) * each]
    }

    /// Zeros for the gradients of keys and values, in their layout.
    pub(super) fn zeros(&self) -> [Vec<[T; LANES]>; 2] {
        let values = self
            .backward
            .as_ref()
            .map_or(0, |operands| operands.values.len());
        [self.keys.len(), values].map(|length| vec![[T::zero(); LANES]; length])
    }
}

/// True if the logits (base 2) of each head are at most 32 by the norms of queries and keys. Then `2^logit` and its sums stay in the
/// range of f32 without subtracting the largest logit.
fn small<T: Real, const R: usize>(
    queries: &[[T; R]],
    keys: &[[T; LANES]],
    heads: Heads,
) -> Vec<bool> {
    let (of_q, of_k) = (queries.len() / heads.count, keys.len() / heads.count);
    (0..heads.count)
        .map(|head| {
            let q = largest_square(&queries[head * of_q..][..of_q], heads.size);
            let k = largest_square(&keys[head * of_k..][..of_k], heads.size);
            // NaN is not small.
            q * k <= T::of(32.0 * 32.0)
        })
        .collect()
}

fn largest_square<T: Real, const N: usize>(rows: &[[T; N]], size: usize) -> T {
    simd::dispatch(LargestSquare { rows, size })
}

/// The rows of one group among those of all heads.
fn of_group<T, const R: usize>(
    x: &[[T; R]],
    heads: Heads,
    (head, group): (usize, usize),
) -> &[[T; R]] {
    let groups = x.len() / (heads.count * heads.size);
    x.get((head * groups + group) * heads.size..)
        .map_or(&[], |x| &x[..heads.size])
}

fn blocks<T: Real, const N: usize>(x: &[T], heads: Heads, factor: T) -> Vec<[T; N]> {
    let rows = x.len() / heads.width();
    let mut out = vec![[T::zero(); N]; rows.div_ceil(N) * heads.width()];
    simd::dispatch(Blocks {
        x,
        heads,
        factor,
        out: &mut out,
    });
    out
}

fn slabs<T: Real>(x: &[T], heads: Heads, factor: T) -> Vec<[T; SLAB]> {
    let rows = (x.len() / heads.width()).next_multiple_of(LANES);
    let mut out = vec![[T::zero(); SLAB]; rows * heads.count * heads.slabs()];
    simd::dispatch(Slabs {
        x,
        heads,
        factor,
        out: &mut out,
    });
    out
}
