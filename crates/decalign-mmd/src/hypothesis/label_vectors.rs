//! Many vectors over the pooled points, in the layout that tiles read.

use decalign_core::pairs::STRIP;
use decalign_core::simd::LANES;
use decalign_core::{Real, parallel};

use crate::pairwise::PooledSamples;

/// Positions of points when each block is padded to whole strips.
pub(crate) struct PaddedLayout {
    /// The first position of every block.
    pub(crate) starts: Vec<usize>,
    /// The position of every point.
    positions: Vec<usize>,
    pub(crate) padded: usize,
}

impl PaddedLayout {
    pub(crate) fn new<T>(pool: &PooledSamples<T>) -> Self {
        let (mut starts, mut positions, mut padded) = (Vec::new(), Vec::new(), 0);
        for block in &pool.blocks {
            starts.push(padded);
            positions.extend(padded..padded + block.len);
            padded += block.len.next_multiple_of(STRIP);
        }
        Self {
            starts,
            positions,
            padded,
        }
    }

    pub(crate) fn points(&self) -> usize {
        self.positions.len()
    }

    /// Spreads one number a point to the positions, with zeros in the padding.
    pub(crate) fn spread<T: Real>(&self, values: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); self.padded];
        self.positions
            .iter()
            .zip(values)
            .for_each(|(position, v)| out[*position] = *v);
        out
    }

    /// The number of vectors of a pass: they fill about 64 MB, and are at least 64.
    pub(crate) fn limit<T>(&self) -> usize {
        let each = self.padded * size_of::<T>();
        ((64 << 20) / each.max(1) / LANES * LANES).max(64)
    }
}

/// LabelVectors over the points; [`LANES`] of them side by side make a slab.
pub(crate) struct LabelVectors<T> {
    pub(crate) count: usize,
    pub(crate) padded: usize,
    pub(crate) slabs: Vec<T>,
}

impl<T: Real> LabelVectors<T> {
    /// Vector number i is `f(i)`, one number a point.
    pub(crate) fn new(
        layout: &PaddedLayout,
        count: usize,
        f: impl Fn(usize) -> Vec<T> + Sync + Send,
    ) -> Self {
        let size = layout.padded * LANES;
        let mut slabs = vec![T::zero(); size * count.div_ceil(LANES)];
        let work = 16 * layout.points() * count;
        parallel::for_each_chunk(&mut slabs, size, work, |s, slab| {
            let rows = slab.as_chunks_mut::<LANES>().0;
            for number in s * LANES..count.min((s + 1) * LANES) {
                let lane = number % LANES;
                for (position, value) in layout.positions.iter().zip(f(number)) {
                    rows[*position][lane] = value;
                }
            }
        });
        Self {
            count,
            padded: layout.padded,
            slabs,
        }
    }

    /// The inner product of every vector with u, one number a point.
    pub(crate) fn dots(&self, layout: &PaddedLayout, u: &[f64]) -> Vec<f64> {
        let slabs = self.slabs.len() / (self.padded * LANES).max(1);
        let work = self.slabs.len();
        let sums = parallel::map(slabs, work, |s| {
            let rows = self.slabs[s * self.padded * LANES..].as_chunks::<LANES>().0;
            let mut sums = [0.0; LANES];
            for (position, u) in layout.positions.iter().zip(u) {
                for (sum, v) in sums.iter_mut().zip(&rows[*position]) {
                    *sum += v.as_f64() * u;
                }
            }
            sums
        });
        sums.into_iter().flatten().take(self.count).collect()
    }
}
