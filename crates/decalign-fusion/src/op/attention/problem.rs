//! One call of attention as the host loops see it.

use decalign_core::nn;
use decalign_core::random::{Bits, Choices, Stream};
use decalign_core::simd::LANES;
use decalign_core::{Elements, Real, Result};

use super::layout::{self, HeadLayout, Heads};
use crate::attention_shape::AttentionShape;
use crate::mask::Mask;

/// Shape, mask and dropout of one call.
#[derive(Clone)]
pub(super) struct Problem<T> {
    pub(super) shape: AttentionShape,
    pub(super) causal: bool,
    pub(super) key_mask: Option<Vec<T>>,
    drop: Option<(f64, Stream)>,
}

impl<T: Real> Problem<T> {
    pub(super) fn new(shape: AttentionShape, mask: &Mask) -> Result<Self> {
        let keys = mask.keys.as_ref().map(|keys| Elements::<T>::new(keys));
        Ok(Self {
            shape,
            causal: mask.causal,
            key_mask: keys.transpose()?.map(|keys| keys.to_vec()),
            drop: mask.drop,
        })
    }

    /// The factor of the logits.
    pub(super) fn scale(&self) -> T {
        T::of(1.0 / (self.shape.head() as f64).sqrt())
    }

    /// Floating-point operations.
    pub(super) fn work(&self) -> usize {
        let s = self.shape;
        2 * s.batch * s.queries * s.keys * (s.width + s.value_width + 8 * s.heads)
    }

    /// The dropout factors of all heads of a sample, one after the other.
    pub(super) fn dropout_mask(&self, sample: usize) -> Option<Vec<T>> {
        let (p, stream) = self.drop?;
        let n = self.shape.heads * self.shape.queries * self.shape.keys;
        Some(nn::dropout_mask(n, p, stream.child(sample as u64)))
    }

    /// The dropout of a sample as bits that can be drawn from any index.
    pub(super) fn choices(&self, sample: usize) -> Option<Choices> {
        let (p, stream) = self.drop?;
        Some(stream.child(sample as u64).choices(1.0 - p))
    }

    /// The dropout bits of a sample for the backward pass, if they take no more memory than its rows: memory stays linear in the lengths.
    pub(super) fn dropout_bits(&self, sample: usize) -> Option<Bits> {
        let (choices, s) = (self.choices(sample)?, self.shape);
        let count = s.heads * s.queries * s.keys;
        let rows = (s.queries + s.keys) * (s.width + s.value_width);
        (count / 8 <= rows * size_of::<T>()).then(|| {
            let mut bits = Bits::default();
            choices.bits(0..count, &mut bits);
            bits
        })
    }

    /// `1 / (1 - p)`, the factor of weights that are not dropped.
    pub(super) fn dropout_scale(&self) -> T {
        T::of(self.drop.map_or(1.0, |(p, _)| 1.0 / (1.0 - p)))
    }

    /// The heads of queries and keys.
    pub(super) fn heads(&self) -> Heads {
        Heads {
            count: self.shape.heads,
            size: self.shape.head(),
        }
    }

    /// The heads of values and results.
    pub(super) fn value_heads(&self) -> Heads {
        Heads {
            count: self.shape.heads,
            size: self.shape.value_head(),
        }
    }

    /// Where queries and keys of a head are.
    pub(super) fn layout(&self, head: usize) -> HeadLayout {
        HeadLayout {
            width: self.shape.width,
            start: head * self.shape.head(),
            size: self.shape.head(),
        }
    }

    /// Where values and results of a head are.
    pub(super) fn value_layout(&self, head: usize) -> HeadLayout {
        HeadLayout {
            width: self.shape.value_width,
            start: head * self.shape.value_head(),
            size: self.shape.value_head(),
        }
    }

    /// See [`layout::initial_logits`].
    pub(super) fn initial_logits(&self, sample: usize) -> Vec<[T; LANES]> {
        let keys = self.shape.keys;
        let mask = self.key_mask.as_ref();
        layout::initial_logits(keys, mask.map(|m| &m[sample * keys..][..keys]))
    }
}
