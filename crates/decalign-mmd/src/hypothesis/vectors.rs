//! Many vectors over the pooled points, in the order in which tiles read them.

use decalign_core::pairs::STRIP;
use decalign_core::simd::LANES;
use decalign_core::{Real, parallel};

use crate::pass::Pool;

/// Where points lie when each block is padded to whole strips.
pub(crate) struct Layout {
    /// Of every block its first place.
    pub(crate) starts: Vec<usize>,
    /// Of every point.
    places: Vec<usize>,
    pub(crate) padded: usize,
}

impl Layout {
    pub(crate) fn new<T>(pool: &Pool<T>) -> Self {
        let (mut starts, mut places, mut padded) = (Vec::new(), Vec::new(), 0);
        for block in &pool.blocks {
            starts.push(padded);
            places.extend(padded..padded + block.len);
            padded += block.len.next_multiple_of(STRIP);
        }
        Self {
            starts,
            places,
            padded,
        }
    }

    pub(crate) fn points(&self) -> usize {
        self.places.len()
    }

    /// One number of every point, zeros between.
    pub(crate) fn spread<T: Real>(&self, values: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); self.padded];
        self.places
            .iter()
            .zip(values)
            .for_each(|(place, v)| out[*place] = *v);
        out
    }

    /// How many vectors a pass takes, so that they fill some 64 MB; at least 64.
    pub(crate) fn limit<T>(&self) -> usize {
        let each = self.padded * size_of::<T>();
        ((64 << 20) / each.max(1) / LANES * LANES).max(64)
    }
}

/// Vectors over the points; [`LANES`] of them side by side make a slab.
pub(crate) struct Vectors<T> {
    pub(crate) count: usize,
    pub(crate) padded: usize,
    pub(crate) slabs: Vec<T>,
}

impl<T: Real> Vectors<T> {
    /// Vector number i is `f(i)`, one number of every point.
    pub(crate) fn new(
        layout: &Layout,
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
                for (place, value) in layout.places.iter().zip(f(number)) {
                    rows[*place][lane] = value;
                }
            }
        });
        Self {
            count,
            padded: layout.padded,
            slabs,
        }
    }

    /// Of every vector the inner product with u, which holds a number of every point.
    pub(crate) fn dots(&self, layout: &Layout, u: &[f64]) -> Vec<f64> {
        let slabs = self.slabs.len() / (self.padded * LANES).max(1);
        let work = self.slabs.len();
        let sums = parallel::map(slabs, work, |s| {
            let rows = self.slabs[s * self.padded * LANES..].as_chunks::<LANES>().0;
            let mut sums = [0.0; LANES];
            for (place, u) in layout.places.iter().zip(u) {
                for (sum, v) in sums.iter_mut().zip(&rows[*place]) {
                    *sum += v.as_f64() * u;
                }
            }
            sums
        });
        sums.into_iter().flatten().take(self.count).collect()
    }
}
