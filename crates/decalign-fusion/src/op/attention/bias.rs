//! An additive bias of the logits, of any shape that broadcasts to (B, H, L, S).

use decalign_core::{Elements, Real};

/// The bias of all samples.
pub(super) struct Bias<'a, T> {
    values: Elements<'a, T>,
    dims: [usize; 4],
    keys: usize,
}

impl<'a, T: Real> Bias<'a, T> {
    /// `values` of shape `dims`, each dimension 1 or that of (B, H, L, S); `keys` is S.
    pub(super) fn new(values: Elements<'a, T>, dims: [usize; 4], keys: usize) -> Self {
        Self { values, dims, keys }
    }

    /// True if samples have different biases.
    pub(super) fn per_sample(&self) -> bool {
        self.dims[0] > 1
    }

    /// The number of elements of a sample.
    pub(super) fn len(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// The number of elements.
    pub(super) fn total(&self) -> usize {
        self.dims.iter().product()
    }

    /// The bias of one sample.
    pub(super) fn sample(&self, sample: usize) -> SampleBias<'_, T> {
        let [_, heads, queries, keys] = self.dims;
        let stride = |size: usize, stride: usize| if size > 1 { stride } else { 0 };
        let start = stride(self.dims[0], sample * self.len());
        SampleBias {
            values: &self.values[start..start + self.len()],
            head: stride(heads, queries * keys),
            query: stride(queries, keys),
            key: stride(keys, 1),
            keys: self.keys,
        }
    }
}

/// The bias of one sample, with the strides of heads, queries and keys: 0 where it is broadcast.
#[derive(Clone, Copy)]
pub(super) struct SampleBias<'a, T> {
    values: &'a [T],
    head: usize,
    query: usize,
    key: usize,
    keys: usize,
}

impl<'a, T: Real> SampleBias<'a, T> {
    /// The bias of one query, in base 2.
    pub(super) fn row(self, head: usize, query: usize) -> impl Iterator<Item = T> + 'a {
        let start = head * self.head + query * self.query;
        let log2_e = T::of(std::f64::consts::LOG2_E);
        (0..self.keys).map(move |j| self.values[start + j * self.key] * log2_e)
    }

    /// Adds the gradients of the logits of one query, for keys from `first` on, to the gradient of the bias.
    pub(super) fn add_gradient(
        self,
        (head, query): (usize, usize),
        first: usize,
        d_logits: impl Iterator<Item = T>,
        sums: &mut [T],
    ) {
        let start = head * self.head + query * self.query;
        for (j, d_logit) in (first..self.keys).zip(d_logits) {
            sums[start + j * self.key] += d_logit;
        }
    }
}
