//! Moments of a chunk about the components' centres: lanes are dimensions.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::tiles::group;
use crate::data::{Chunk, ROWS, stride};
use crate::parameters::{Moments, Parameters, Second};

/// Means in rows of padded length.
pub(crate) struct Centres<T>(Vec<T>);

impl<T: Real> Centres<T> {
    pub(crate) fn new(mixture: &Parameters) -> Self {
        let d = mixture.width;
        let stride = stride(d);
        let mut rows = vec![T::zero(); mixture.components().next_multiple_of(2) * stride];
        for (to, from) in rows
            .chunks_exact_mut(stride)
            .zip(mixture.means.chunks_exact(d))
        {
            to.iter_mut().zip(from).for_each(|(t, f)| *t = T::of(*f));
        }
        Self(rows)
    }

    #[inline(always)]
    fn block(&self, k: usize, block: usize, stride: usize) -> [T; LANES] {
        let mut out = [T::zero(); LANES];
        out.copy_from_slice(&self.0[k * stride + block * LANES..][..LANES]);
        out
    }
}

/// Adds the moments of a chunk with coefficients `cells` (K, [`ROWS`]), K up to whole groups.
pub(crate) struct Accumulate<'a, T> {
    pub(crate) chunk: &'a Chunk<T>,
    pub(crate) cells: &'a [T],
    pub(crate) centres: &'a Centres<T>,
    pub(crate) second: Second,
    pub(crate) scratch: &'a mut Vec<T>,
    pub(crate) moments: &'a mut Moments,
}

impl<T: Real> Kernel for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (s0, cells) in self
            .moments
            .s0
            .iter_mut()
            .zip(self.cells.chunks_exact(ROWS))
        {
            let mut sum = [T::zero(); LANES];
            for cell in cells.as_chunks::<LANES>().0 {
                for i in 0..LANES {
                    sum[i] += cell[i];
                }
            }
            *s0 += simd::total(sum).as_f64();
        }
        match (self.second, group::<T>()) {
            (Second::Matrix, 6) => self.matrices::<I, 6>(isa),
            (Second::Matrix, _) => self.matrices::<I, 3>(isa),
            (_, 6) => self.diagonals::<I, 2>(isa),
            (_, _) => self.diagonals::<I, 1>(isa),
        }
    }
}

impl<T: Real> Accumulate<'_, T> {
    #[inline(always)]
    fn diagonals<I: Isa, const G: usize>(self, isa: I) {
        let (k, stride) = (self.moments.s0.len(), self.chunk.stride);
        let d = self.moments.s1.len() / k;
        let rows = self.chunk.rows.as_chunks::<LANES>().0;
        for first in (0..k).step_by(G) {
            let cells: [&[T]; G] =
                std::array::from_fn(|g| &self.cells[(first + g) * ROWS..][..self.chunk.used]);
            for block in 0..d.div_ceil(LANES) {
                let centres: [[T; LANES]; G] =
                    std::array::from_fn(|g| self.centres.block(first + g, block, stride));
                let mut sums = [[T::zero(); LANES]; G];
                let mut squares = [[T::zero(); LANES]; G];
                let rows = rows_of(rows, block, stride, self.chunk.used);
                for (n, x) in rows.enumerate() {
                    for g in 0..G {
                        let c = cells[g][n];
                        for i in 0..LANES {
                            let e = x[i] - centres[g][i];
                            let t = c * e;
                            sums[g][i] += t;
                            squares[g][i] = isa.mul_add(t, e, squares[g][i]);
                        }
                    }
                }
                for g in 0..G.min(k - first) {
                    let at = (first + g) * d + block * LANES;
                    add(&mut self.moments.s1, at, (first + g + 1) * d, &sums[g]);
                    if self.second == Second::Diagonal {
                        add(&mut self.moments.s2, at, (first + g + 1) * d, &squares[g]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn matrices<I: Isa, const G: usize>(self, isa: I) {
        let (k, stride, used) = (self.moments.s0.len(), self.chunk.stride, self.chunk.used);
        let d = self.moments.s1.len() / k;
        self.scratch.resize(2 * ROWS * stride, T::zero());
        let (plain, scaled) = self.scratch.split_at_mut(ROWS * stride);
        for k in 0..k {
            let cells = &self.cells[k * ROWS..][..used];
            for block in 0..d.div_ceil(LANES) {
                let centre = self.centres.block(k, block, stride);
                let mut sum = [T::zero(); LANES];
                for (n, c) in cells.iter().enumerate() {
                    let at = n * stride + block * LANES;
                    let mut e = [T::zero(); LANES];
                    e.copy_from_slice(&self.chunk.rows[at..][..LANES]);
                    let mut t = e;
                    for i in 0..LANES {
                        e[i] -= centre[i];
                        t[i] = *c * e[i];
                        sum[i] += t[i];
                    }
                    plain[at..][..LANES].copy_from_slice(&e);
                    scaled[at..][..LANES].copy_from_slice(&t);
                }
                let at = k * d + block * LANES;
                add(&mut self.moments.s1, at, (k + 1) * d, &sum);
            }
            let blocks = plain.as_chunks::<LANES>().0;
            for first in (0..d).step_by(G) {
                for block in 0..=(d.min(first + G) - 1) / LANES {
                    let mut sums = [[T::zero(); LANES]; G];
                    let e = rows_of(blocks, block, stride, used);
                    for (e, t) in e.zip(scaled.chunks_exact(stride)) {
                        let t = &t[first..first + G];
                        for r in 0..G {
                            for i in 0..LANES {
                                sums[r][i] = isa.mul_add(e[i], t[r], sums[r][i]);
                            }
                        }
                    }
                    for r in 0..G.min(d - first) {
                        let row = (k * d + first + r) * d;
                        add(&mut self.moments.s2, row + block * LANES, row + d, &sums[r]);
                    }
                }
            }
        }
    }
}

/// A block of dimensions of every row; strides that are not whole blocks are cut off.
#[inline(always)]
fn rows_of<T>(
    blocks: &[[T; LANES]],
    block: usize,
    stride: usize,
    used: usize,
) -> impl Iterator<Item = &[T; LANES]> {
    blocks.iter().skip(block).step_by(stride / LANES).take(used)
}

/// Adds lanes to `to[at..end]`.
#[inline(always)]
fn add<T: Real>(to: &mut [f64], at: usize, end: usize, lanes: &[T; LANES]) {
    to[at..end]
        .iter_mut()
        .zip(lanes)
        .for_each(|(t, v)| *t += v.as_f64());
}
