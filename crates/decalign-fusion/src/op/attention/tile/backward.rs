//! The backward tile: gradients of queries, keys and values.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::super::layout::SLAB;
use super::{Block, Slab, Tile, add_over_keys, add_product, block, keep, product};

/// The gradients of R queries and some blocks of keys. With the weights P, the dropout factors D and the gradient G of the result,
/// `dV += (P D)^T G`, `U = (G V^T) D`, `dS = P (U - rowsum(U P))`, `dQ = dS K`, `dK += dS^T Q`, each up to
/// a constant factor. The sum of `U P` is `G` times the result (Dao and others, 2022, section 3.1 of the appendix).
pub(in crate::op::attention) struct Backward<'a, T, const R: usize> {
    pub(in crate::op::attention) tile: Tile<'a, T, R>,
    /// The logarithms (base 2) of the sums of weights.
    pub(in crate::op::attention) logs: [T; R],
    /// The inner product of G and the result for each query.
    pub(in crate::op::attention) mean: [T; R],
    /// G, coordinate by coordinate.
    pub(in crate::op::attention) gradients: &'a [[T; R]],
    /// In the layout of the keys; multiplied by `1 / (1 - p)` if weights are dropped.
    pub(in crate::op::attention) values: &'a [[T; LANES]],
    pub(in crate::op::attention) key_slabs: &'a [[T; SLAB]],
    /// The weights that dropout keeps, block after block.
    pub(in crate::op::attention) kept: Option<&'a [[u16; R]]>,
    /// Receives dS, block after block.
    pub(in crate::op::attention) d_logits: &'a mut [Block<T, R>],
    /// Sums over the keys so far, slab after slab.
    pub(in crate::op::attention) dq: &'a mut [Slab<T, R>],
    /// In the layout of keys and values.
    pub(in crate::op::attention) dk: &'a mut [[T; LANES]],
    pub(in crate::op::attention) dv: &'a mut [[T; LANES]],
}

impl<T: Real, const R: usize> Backward<'_, T, R> {
    /// Computes dS and adds the gradients of keys and values.
    #[inline(always)]
    fn d_logits<I: Isa, const OWN: bool>(&mut self, isa: I) {
        let (size, value_size) = (self.tile.queries.len(), self.gradients.len());
        for b in 0..self.tile.blocks {
            let mut p = self.tile.logits::<I, OWN>(isa, b);
            for r in 0..R {
                for i in 0..LANES {
                    p[r][i] = simd::exp2_below_value(isa, p[r][i] - self.logs[r]);
                }
            }
            let values = block(self.values, b, value_size);
            let mut u = product(isa, self.gradients, values, [[T::zero(); LANES]; R]);
            if let Some(kept) = &self.kept {
                keep(isa, &kept[b], &mut u);
            }
            for r in 0..R {
                for i in 0..LANES {
                    u[r][i] = p[r][i] * (u[r][i] - self.mean[r]);
                }
            }
            self.d_logits[b] = u;
            let dk = &mut self.dk[b * size..][..size];
            add_product(isa, self.tile.queries, &u, dk);
            if let Some(kept) = &self.kept {
                keep(isa, &kept[b], &mut p);
            }
            let dv = &mut self.dv[b * value_size..][..value_size];
            add_product(isa, self.gradients, &p, dv);
        }
    }
}

impl<T: Real, const R: usize> Kernel for Backward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        match self.tile.query_logits {
            Some(_) => self.d_logits::<I, true>(isa),
            None => self.d_logits::<I, false>(isa),
        }
        let (seen, hidden) = self.d_logits.split_at_mut(self.tile.blocks);
        hidden.fill([[T::zero(); LANES]; R]);
        let keys = (self.key_slabs, self.tile.queries.len());
        add_over_keys(isa, seen, keys, self.dq);
    }
}
