//! Contractions of a joint tensor with one vector a marginal.
//!
//! A tensor K_1 x ... x K_M is the matrix K_1 x (K_2 ... K_M). With `w_1` the outer product of the vectors of
//! marginals 2 to M, its sums over all marginals but the first are `A w_1`; and `A^T v_1` is a tensor of the other
//! marginals, to which the same applies. So the sums of all marginals, each with the newest vectors of those before
//! it, cost two passes over the cells instead of M. Source: Phan and others (2013), dimension trees.

use decalign_core::Real;

use super::layout::JointLayout;
use super::matvec::{matvec, matvec_transposed, outer_product};

/// Partial contractions.
pub(crate) struct DimensionTree<T> {
    /// The tensor of marginals k to M, k from the second on, laid end to end.
    tables: Vec<T>,
    /// The outer products of the vectors of those marginals.
    outers: Vec<T>,
    /// The offset of each level.
    at: Vec<usize>,
}

impl<T: Real> DimensionTree<T> {
    pub(crate) fn new(cells: &JointLayout) -> Self {
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

    /// `w_k`, the outer product of the vectors of the marginals after k.
    pub(crate) fn outer(&self, k: usize) -> &[T] {
        &self.outers[self.at[k]..self.at[k + 1]]
    }

    /// The tensor of marginal k and those after it, the joint one for k = 0.
    pub(crate) fn table<'a>(&'a self, joint: &'a [T], k: usize) -> &'a [T] {
        match k {
            0 => joint,
            _ => &self.tables[self.at[k - 1]..self.at[k]],
        }
    }

    pub(crate) fn table_mut(&mut self, k: usize) -> &mut [T] {
        &mut self.tables[self.at[k - 1]..self.at[k]]
    }

    /// Table k (empty for the joint one), table k + 1 and outer product k.
    pub(crate) fn split(&mut self, k: usize) -> (&mut [T], &[T], &mut [T]) {
        let start = if k == 0 { 0 } else { self.at[k - 1] };
        let (table, next) = self.tables[start..self.at[k + 1]].split_at_mut(self.at[k] - start);
        (table, next, &mut self.outers[self.at[k]..self.at[k + 1]])
    }

    /// Outer products k and k + 1.
    pub(crate) fn outer_pair(&mut self, k: usize) -> (&[T], &mut [T]) {
        let both = &mut self.outers[self.at[k]..self.at[k + 2]];
        let (this, after) = both.split_at_mut(self.at[k + 1] - self.at[k]);
        (this, after)
    }

    pub(crate) fn clear_outers(&mut self) {
        self.outers.fill(T::zero());
    }

    /// Computes all outer products.
    pub(crate) fn prepare(&mut self, cells: &JointLayout, vectors: &[T]) {
        let last = cells.last();
        self.outers[self.at[last - 1]..self.at[last]].copy_from_slice(cells.vector(last, vectors));
        for k in (0..last - 1).rev() {
            let (to, from) = self.outers.split_at_mut(self.at[k + 1]);
            let from = &from[..cells.widths[k + 1]];
            let scales = &cells.vector(k + 1, vectors)[..cells.sizes[k + 1]];
            outer_product(scales, from, &mut to[self.at[k]..]);
        }
    }

    /// Contracts level k: `table_{k+1} = table_k^T v_k`.
    pub(crate) fn descend(&mut self, cells: &JointLayout, joint: &[T], k: usize, vectors: &[T]) {
        let scales = &cells.vector(k, vectors)[..cells.sizes[k]];
        let range = self.at[k]..self.at[k + 1];
        match k {
            0 => matvec_transposed(joint, scales, &mut self.tables[range]),
            _ => {
                let (from, to) = self.tables.split_at_mut(self.at[k]);
                let to = &mut to[..cells.widths[k]];
                matvec_transposed(&from[self.at[k - 1]..], scales, to);
            }
        }
    }

    /// The sums of marginal k with the vectors of all others: those before it as given to [`DimensionTree::descend`],
    /// those after it as given to [`DimensionTree::prepare`].
    pub(crate) fn sums(&self, cells: &JointLayout, joint: &[T], k: usize, out: &mut [T]) {
        let table = self.table(joint, k);
        match k == cells.last() {
            true => out.copy_from_slice(table),
            false => matvec(table, self.outer(k), &mut out[..cells.sizes[k]]),
        }
    }

    /// The sums of every marginal with the vectors of all others.
    pub(crate) fn all_sums(&mut self, cells: &JointLayout, joint: &[T], vectors: &[T]) -> Vec<T> {
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
