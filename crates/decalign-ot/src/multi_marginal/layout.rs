//! The memory layout of a joint tensor and of vectors of its marginals.

use decalign_core::Real;
use decalign_core::simd::LANES;

/// The layout of a joint tensor: rows along the last marginal are padded to whole vector blocks, so that loops have
/// no remainder, unless that would take much memory.
#[derive(Clone, Debug)]
pub(crate) struct JointLayout {
    /// Points of each marginal.
    pub(crate) sizes: Vec<usize>,
    /// Numbers from one row to the next.
    pub(crate) stride: usize,
    /// The offset of each marginal's vector among concatenated vectors, and their total length.
    starts: Vec<usize>,
    /// Columns of the matrix that each level of a dimension tree contracts.
    pub(super) widths: Vec<usize>,
}

/// Cells beyond which rows are not padded.
const PADDING_LIMIT: usize = 1 << 20;

impl JointLayout {
    /// The layout for at least two marginals.
    pub(crate) fn new(sizes: &[usize]) -> Self {
        let last = sizes[sizes.len() - 1];
        let rows: usize = sizes[..sizes.len() - 1].iter().product();
        let padded = last.next_multiple_of(LANES);
        // Padding adds little to long rows.
        let worth = rows * padded <= PADDING_LIMIT || padded <= last + last / 8;
        let stride = if worth { padded } else { last };
        let mut starts = vec![0];
        for (m, k) in sizes.iter().enumerate() {
            let padded = if m + 1 == sizes.len() {
                stride
            } else {
                k.next_multiple_of(LANES)
            };
            starts.push(starts[m] + padded);
        }
        let mut widths = vec![stride; sizes.len() - 1];
        for k in (0..widths.len() - 1).rev() {
            widths[k] = sizes[k + 1] * widths[k + 1];
        }
        Self {
            sizes: sizes.to_vec(),
            stride,
            starts,
            widths,
        }
    }

    /// Numbers of a joint tensor with its padding.
    pub(crate) fn len(&self) -> usize {
        self.sizes[0] * self.widths[0]
    }

    /// Numbers of the vectors of all marginals with their padding.
    pub(crate) fn vectors_len(&self) -> usize {
        self.starts[self.sizes.len()]
    }

    pub(crate) fn last(&self) -> usize {
        self.sizes.len() - 1
    }

    /// The vector of marginal `m` with its padding.
    pub(crate) fn vector<'a, T>(&self, m: usize, vectors: &'a [T]) -> &'a [T] {
        &vectors[self.starts[m]..self.starts[m + 1]]
    }

    pub(crate) fn vector_mut<'a, T>(&self, m: usize, vectors: &'a mut [T]) -> &'a mut [T] {
        &mut vectors[self.starts[m]..self.starts[m + 1]]
    }

    /// Concatenates vectors, each followed by `padding`.
    pub(crate) fn vectors<T: Real>(
        &self,
        each: impl Iterator<Item = impl AsRef<[T]>>,
        padding: T,
    ) -> Vec<T> {
        let mut all = vec![padding; self.vectors_len()];
        for (m, x) in each.enumerate() {
            let x = x.as_ref();
            all[self.starts[m]..][..x.len()].copy_from_slice(x);
        }
        all
    }

    /// The vectors of the marginals without padding.
    pub(crate) fn each<'a, T>(&'a self, vectors: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        let each = self.starts.iter().zip(&self.sizes);
        each.map(move |(start, k)| &vectors[*start..][..*k])
    }
}
