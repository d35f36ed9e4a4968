//! One sample's queries, keys and values in the order in which the loops read them.

use std::ops::Range;

use decalign_core::Real;
use decalign_core::simd::{self, LANES};

use super::Problem;
use super::group::Keys;
use super::head::Rows;
use super::pack::{Blocks, Grouped, Heads, LargestSquare, QUAD, SLAB, Slabs, quads};

/// All heads of one sample, in groups of R queries and blocks of keys.
pub(super) struct Packed<T, const R: usize> {
    heads: Heads,
    value_heads: Heads,
    /// What logits start from.
    pub(super) start: Vec<[T; LANES]>,
    /// Times scale and log2 e.
    queries: Vec<[T; R]>,
    keys: Vec<[T; LANES]>,
    /// Of each head, whether its logits are small.
    small: Vec<bool>,
    /// What is summed over keys, in slabs or quads: values, or in the backward pass keys.
    slabs: Vec<[T; SLAB]>,
    back: Option<Back<T, R>>,
}

/// What only the backward pass needs.
struct Back<T, const R: usize> {
    /// Times what makes up for dropped weights.
    values: Vec<[T; LANES]>,
    /// Of the results.
    gradients: Vec<[T; R]>,
}

impl<T: Real, const R: usize> Packed<T, R> {
    /// For results.
    pub(super) fn forward(
        problem: &Problem<T>,
        sample: usize,
        (q, k, v): (&[T], &[T], &[T]),
    ) -> Self {
        let (heads, factor) = (problem.value_heads(), problem.make_up());
        let mut packed = Self::logits(problem, sample, (q, k));
        // Times weights far from 1, large and tiny values would leave f32; NaN too is not small.
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

    /// For gradients.
    pub(super) fn backward(problem: &Problem<T>, sample: usize, given: &Rows<T>) -> Self {
        let heads = problem.value_heads();
        let packed = Self::logits(problem, sample, (given.q, given.k));
        Self {
            slabs: match problem.heads().size <= QUAD {
                true => quads(&packed.keys, problem.heads().size),
                false => slabs(given.k, problem.heads(), T::one()),
            },
            back: Some(Back {
                values: blocks(given.v, heads, problem.make_up()),
                gradients: groups(given.g, heads, T::one()),
            }),
            ..packed
        }
    }

    fn logits(problem: &Problem<T>, sample: usize, (q, k): (&[T], &[T])) -> Self {
        let scale = problem.scale() * T::of(std::f64::consts::LOG2_E);
        let (heads, queries) = (problem.heads(), groups(q, problem.heads(), scale));
        let keys = blocks(k, heads, T::one());
        Self {
            heads,
            value_heads: problem.value_heads(),
            start: problem.starts(sample),
            // Found out for results alone.
            small: vec![false; heads.count],
            queries,
            keys,
            slabs: Vec::new(),
            back: None,
        }
    }

    /// One group's queries.
    pub(super) fn queries(&self, head: usize, group: usize) -> &[[T; R]] {
        of_group(&self.queries, self.heads, (head, group))
    }

    /// The gradients of one group's results.
    pub(super) fn gradients(&self, head: usize, group: usize) -> &[[T; R]] {
        let gradients = self.back.as_ref().map(|back| &back.gradients[..]);
        of_group(
            gradients.unwrap_or_default(),
            self.value_heads,
            (head, group),
        )
    }

    /// Some of a head's blocks of keys, and what belongs to them.
    pub(super) fn keys(&self, head: usize, blocks: Range<usize>) -> Keys<'_, T> {
        let back = self.back.as_ref();
        Keys {
            keys: self.of_blocks(&self.keys, head, &blocks),
            start: &self.start[blocks.clone()],
            small: self.small[head],
            slabs: self.of_blocks(&self.slabs, head, &blocks),
            values: back.map(|back| self.of_blocks(&back.values, head, &blocks)),
            blocks,
        }
    }

    /// Some of a head's blocks, of as many rows each as fit.
    fn of_blocks<'a, X>(&self, x: &'a [X], head: usize, blocks: &Range<usize>) -> &'a [X] {
        let all = self.start.len();
        let each = x.len() / (self.heads.count * all).max(1);
        &x[(head * all + blocks.start) * each..(head * all + blocks.end) * each]
    }

    /// Zeros for the gradients of keys and of values, as those are stored.
    pub(super) fn zeros(&self) -> [Vec<[T; LANES]>; 2] {
        let values = self.back.as_ref().map_or(0, |back| back.values.len());
        [self.keys.len(), values].map(|length| vec![[T::zero(); LANES]; length])
    }
}

/// Of each head, whether its logits, in base 2, are at most 32 by the norms of queries and keys. Then neither weights nor
/// their sums, counted from 0, come near the ends of f32.
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

fn groups<T: Real, const R: usize>(x: &[T], heads: Heads, factor: T) -> Vec<[T; R]> {
    let rows = x.len() / heads.width();
    let mut out = vec![[T::zero(); R]; rows.div_ceil(R) * heads.width()];
    simd::dispatch(Grouped {
        x,
        heads,
        factor,
        out: &mut out,
    });
    out
}

fn blocks<T: Real>(x: &[T], heads: Heads, factor: T) -> Vec<[T; LANES]> {
    let rows = x.len() / heads.width();
    let mut out = vec![[T::zero(); LANES]; rows.div_ceil(LANES) * heads.width()];
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
