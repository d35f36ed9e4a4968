//! What is added to logits: a bias of any shape that broadcasts to (B, H, L, S).

use decalign_core::{Elements, Real};

/// A bias for all samples.
pub(super) struct Bias<'a, T> {
    numbers: Elements<'a, T>,
    dims: [usize; 4],
    keys: usize,
}

impl<'a, T: Real> Bias<'a, T> {
    /// Of `numbers` in the order of `dims`, each 1 or what it is broadcast to; `keys` is S.
    pub(super) fn new(numbers: Elements<'a, T>, dims: [usize; 4], keys: usize) -> Self {
        Self {
            numbers,
            dims,
            keys,
        }
    }

    /// Whether each sample has its own.
    pub(super) fn of_samples(&self) -> bool {
        self.dims[0] > 1
    }

    /// How many numbers one sample has.
    pub(super) fn len(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// How many numbers all samples have.
    pub(super) fn total(&self) -> usize {
        self.dims.iter().product()
    }

    /// That of one sample.
    pub(super) fn of(&self, sample: usize) -> Added<'_, T> {
        let [_, heads, queries, keys] = self.dims;
        let one = |size: usize, distance: usize| if size > 1 { distance } else { 0 };
        let start = one(self.dims[0], sample * self.len());
        Added {
            numbers: &self.numbers[start..start + self.len()],
            head: one(heads, queries * keys),
            query: one(queries, keys),
            key: one(keys, 1),
            keys: self.keys,
        }
    }
}

/// What is added to one sample's logits, and the distances of its heads, queries and keys.
#[derive(Clone, Copy)]
pub(super) struct Added<'a, T> {
    numbers: &'a [T],
    head: usize,
    query: usize,
    key: usize,
    keys: usize,
}

impl<'a, T: Real> Added<'a, T> {
    /// The numbers of one query, in base 2.
    pub(super) fn row(self, head: usize, query: usize) -> impl Iterator<Item = T> + 'a {
        let start = head * self.head + query * self.query;
        let log2_e = T::of(std::f64::consts::LOG2_E);
        (0..self.keys).map(move |j| self.numbers[start + j * self.key] * log2_e)
    }

    /// Adds a query's slopes, those of keys from `first` on, to where its bias came from.
    pub(super) fn gather(
        self,
        (head, query): (usize, usize),
        first: usize,
        slopes: impl Iterator<Item = T>,
        sums: &mut [T],
    ) {
        let start = head * self.head + query * self.query;
        for (j, slope) in (first..self.keys).zip(slopes) {
            sums[start + j * self.key] += slope;
        }
    }
}
