//! Distances of a chunk to every component, in register tiles: lanes are samples.

use decalign_core::Real;
use decalign_core::simd::{Isa, Kernel, LANES};

use super::tiles::{Form, Tiles, Triangle, group};
use crate::data::{Chunk, ROWS};

/// Writes `offset_k - |W_k x + b_k|^2` of a chunk to (K, [`ROWS`]).
pub(crate) struct Distances<'a, T> {
    pub(crate) tiles: &'a Tiles<T>,
    pub(crate) chunk: &'a Chunk<T>,
    pub(crate) out: &'a mut [T],
    pub(crate) scratch: &'a mut Vec<T>,
}

impl<T: Real> Kernel for Distances<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // Two copies of one loop, each with the tile that suits its type.
        match group::<T>() {
            6 => self.with::<I, 6>(isa),
            _ => self.with::<I, 3>(isa),
        }
    }
}

impl<T: Real> Distances<'_, T> {
    #[inline(always)]
    fn with<I: Isa, const G: usize>(self, isa: I) {
        let blocks = self.chunk.used.div_ceil(LANES);
        let (d, offsets, columns) = (self.tiles.width, &self.tiles.offsets, &self.chunk.columns);
        match &self.tiles.weights {
            Form::Diagonal(pairs) => {
                diagonal::<I, T, G>(isa, pairs, d, offsets, columns, blocks, self.out)
            }
            Form::Full(triangles) => {
                for (k, triangle) in triangles.iter().enumerate() {
                    let out = self.out[k * ROWS..][..ROWS].as_chunks_mut::<LANES>().0;
                    for (block, out) in out.iter_mut().enumerate().take(blocks) {
                        let mut sum = [T::zero(); LANES];
                        rows::<I, T, G>(isa, triangle, d, columns, block, |isa, _, z| {
                            for i in 0..LANES {
                                sum[i] = isa.mul_add(z[i], z[i], sum[i]);
                            }
                        });
                        *out = less(offsets[k], sum);
                    }
                }
            }
            Form::Tied(triangle, pairs) => {
                let turned = self.scratch;
                turned.resize(d.next_multiple_of(G) * ROWS, T::zero());
                for block in 0..blocks {
                    rows::<I, T, G>(isa, triangle, d, columns, block, |_, j, z| {
                        turned[j * ROWS + block * LANES..][..LANES].copy_from_slice(&z);
                    });
                }
                diagonal::<I, T, G>(isa, pairs, d, offsets, turned, blocks, self.out);
            }
        }
    }
}

/// `offset - sum`, kept finite so that no sample is without a density.
#[inline(always)]
fn less<T: Real>(offset: T, sum: [T; LANES]) -> [T; LANES] {
    let most = T::of(1e30);
    let mut out = [T::zero(); LANES];
    for i in 0..LANES {
        out[i] = offset - if sum[i] < most { sum[i] } else { most };
    }
    out
}

#[inline(always)]
fn diagonal<I: Isa, T: Real, const G: usize>(
    isa: I,
    pairs: &[T],
    d: usize,
    offsets: &[T],
    columns: &[T],
    blocks: usize,
    out: &mut [T],
) {
    for (first, pairs) in pairs.as_chunks::<G>().0.chunks_exact(2 * d).enumerate() {
        for block in 0..blocks {
            let mut sums = [[T::zero(); LANES]; G];
            let columns = columns.as_chunks::<LANES>().0.iter();
            let columns = columns.skip(block).step_by(ROWS / LANES);
            for (x, pair) in columns.zip(pairs.as_chunks::<2>().0) {
                let [w, b] = pair;
                for r in 0..G {
                    for i in 0..LANES {
                        let z = isa.mul_add(x[i], w[r], b[r]);
                        sums[r][i] = isa.mul_add(z, z, sums[r][i]);
                    }
                }
            }
            for (r, offset) in offsets[first * G..].iter().take(G).enumerate() {
                let at = (first * G + r) * ROWS + block * LANES;
                out[at..][..LANES].copy_from_slice(&less(*offset, sums[r]));
            }
        }
    }
}

/// Gives the rows of `W x + b` of a block of samples.
#[inline(always)]
fn rows<I: Isa, T: Real, const G: usize>(
    isa: I,
    triangle: &Triangle<T>,
    d: usize,
    columns: &[T],
    block: usize,
    mut take: impl FnMut(I, usize, [T; LANES]),
) {
    let mut matrix = triangle.matrix.as_chunks::<G>().0;
    for (first, bias) in triangle.bias.as_chunks::<G>().0.iter().enumerate() {
        let mut sums = [[T::zero(); LANES]; G];
        for r in 0..G {
            sums[r] = [bias[r]; LANES];
        }
        let (part, rest) = matrix.split_at(d.min((first + 1) * G));
        matrix = rest;
        let columns = columns.as_chunks::<LANES>().0.iter();
        let columns = columns.skip(block).step_by(ROWS / LANES);
        for (x, w) in columns.zip(part) {
            for r in 0..G {
                for i in 0..LANES {
                    sums[r][i] = isa.mul_add(x[i], w[r], sums[r][i]);
                }
            }
        }
        for r in 0..G {
            take(isa, first * G + r, sums[r]);
        }
    }
}
