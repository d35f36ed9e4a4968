//! The cells of a joint tensor, and its contractions with one vector a marginal.
//!
//! A tensor K_1 x ... x K_M is the matrix K_1 x (K_2 ... K_M). With `w_1` the outer product of the
//! vectors of marginals 2 to M, its sums over all marginals but the first are `A w_1`; and
//! `A^T v_1` is a tensor of the other marginals, to go on with in the same way. So the sums of all
//! marginals, each with the newest vectors of those before it, cost two passes over the cells
//! instead of M. (The dimension trees of tensor decompositions: Phan and others, 2013.)

use decalign_core::Real;
use decalign_core::simd::LANES;

use super::passes::{columns, outer, rows};

/// The layout of a joint tensor: the rows of its last marginal are padded to whole blocks, so that
/// no loop has a rest, unless that would take much memory.
#[derive(Clone, Debug)]
pub(crate) struct Cells {
    pub(crate) sizes: Vec<usize>,
    /// The distance of two rows.
    pub(crate) stride: usize,
    /// Where the vector of each marginal starts among vectors laid end to end, and the end of all.
    starts: Vec<usize>,
    /// The width of the matrix that each level contracts.
    widths: Vec<usize>,
}

/// Cells beyond which rows are not padded.
const PADDING_LIMIT: usize = 1 << 20;

impl Cells {
    /// Of at least two marginals.
    pub(crate) fn new(sizes: &[usize]) -> Self {
        let last = sizes[sizes.len() - 1];
        let rows: usize = sizes[..sizes.len() - 1].iter().product();
        let padded = last.next_multiple_of(LANES);
        // Of long rows the padding is little.
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

    /// Numbers of a joint tensor, padding included.
    pub(crate) fn len(&self) -> usize {
        self.sizes[0] * self.widths[0]
    }

    /// Numbers of one vector a marginal, padding included.
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

    /// Vectors laid end to end, `padding` behind each.
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

    /// The vectors one by one, without padding.
    pub(crate) fn each<'a, T>(&'a self, vectors: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        let each = self.starts.iter().zip(&self.sizes);
        each.map(move |(start, k)| &vectors[*start..][..*k])
    }
}

/// What contractions leave on their way.
pub(crate) struct Levels<T> {
    /// The tensor of marginals k to M, k from the second on, laid end to end.
    tables: Vec<T>,
    /// The outer products of the vectors of those marginals.
    outers: Vec<T>,
    /// Where each starts.
    at: Vec<usize>,
}

impl<T: Real> Levels<T> {
    pub(crate) fn new(cells: &Cells) -> Self {
        let mut at = vec![0];
        for width in &cells.widths {
            at.push(at[at.len() - 1] + width);
        }
        let total = at[at.len() - 1];
        Self {
            tables: vec![T::zero(); total],
            outers: vec![T::zero(); total],
            at,
        }
    }

    /// `w_k`, the outer product of the vectors behind marginal k.
    pub(crate) fn outer(&self, k: usize) -> &[T] {
        &self.outers[self.at[k]..self.at[k + 1]]
    }

    /// The tensor of marginal k and those behind it, the joint one for k = 0.
    pub(crate) fn table<'a>(&'a self, joint: &'a [T], k: usize) -> &'a [T] {
        match k {
            0 => joint,
            _ => &self.tables[self.at[k - 1]..self.at[k]],
        }
    }

    pub(crate) fn table_mut(&mut self, k: usize) -> &mut [T] {
        &mut self.tables[self.at[k - 1]..self.at[k]]
    }

    /// Table k, none for the joint one, that of the level behind it, and outer product k.
    pub(crate) fn split(&mut self, k: usize) -> (&mut [T], &[T], &mut [T]) {
        let start = if k == 0 { 0 } else { self.at[k - 1] };
        let (table, next) = self.tables[start..self.at[k + 1]].split_at_mut(self.at[k] - start);
        (table, next, &mut self.outers[self.at[k]..self.at[k + 1]])
    }

    /// Outer product k and that of the level behind it.
    pub(crate) fn outer_pair(&mut self, k: usize) -> (&[T], &mut [T]) {
        let both = &mut self.outers[self.at[k]..self.at[k + 2]];
        let (this, behind) = both.split_at_mut(self.at[k + 1] - self.at[k]);
        (this, behind)
    }

    pub(crate) fn clear_outers(&mut self) {
        self.outers.fill(T::zero());
    }

    /// All outer products.
    pub(crate) fn prepare(&mut self, cells: &Cells, vectors: &[T]) {
        let last = cells.last();
        self.outers[self.at[last - 1]..self.at[last]].copy_from_slice(cells.vector(last, vectors));
        for k in (0..last - 1).rev() {
            let (to, from) = self.outers.split_at_mut(self.at[k + 1]);
            let from = &from[..cells.widths[k + 1]];
            let scales = &cells.vector(k + 1, vectors)[..cells.sizes[k + 1]];
            outer(scales, from, &mut to[self.at[k]..]);
        }
    }

    /// `table_{k+1} = table_k^T v_k`.
    pub(crate) fn descend(&mut self, cells: &Cells, joint: &[T], k: usize, vectors: &[T]) {
        let scales = &cells.vector(k, vectors)[..cells.sizes[k]];
        let range = self.at[k]..self.at[k + 1];
        match k {
            0 => columns(joint, scales, &mut self.tables[range]),
            _ => {
                let (from, to) = self.tables.split_at_mut(self.at[k]);
                let to = &mut to[..cells.widths[k]];
                columns(&from[self.at[k - 1]..], scales, to);
            }
        }
    }

    /// The sums of marginal k with the vectors of all others: those before it as they were given
    /// to [`Levels::descend`], those behind it to [`Levels::prepare`].
    pub(crate) fn sums(&self, cells: &Cells, joint: &[T], k: usize, out: &mut [T]) {
        let table = self.table(joint, k);
        match k == cells.last() {
            true => out.copy_from_slice(table),
            false => rows(table, self.outer(k), &mut out[..cells.sizes[k]]),
        }
    }

    /// The sums of every marginal with the vectors of all others.
    pub(crate) fn all_sums(&mut self, cells: &Cells, joint: &[T], vectors: &[T]) -> Vec<T> {
        let mut all = vec![T::zero(); cells.vectors_len()];
        self.prepare(cells, vectors);
        for k in 0..=cells.last() {
            self.sums(cells, joint, k, cells.vector_mut(k, &mut all));
            if k < cells.last() {
                self.descend(cells, joint, k, vectors);
            }
        }
        all
    }
}
