//! Log-densities of a chunk under every component, in register tiles: lanes are samples.

use decalign_core::Real;
use decalign_core::simd::{Isa, Kernel, LANES};

use super::packed::{PackedCovariances, PackedMixture, Triangle, triangle_group};
use crate::row_chunk::{BLOCKS, RowChunk};

/// Writes `offset_k - |W_k x + b_k|^2` of a chunk to its cells: blocks of samples, each with all
/// components, padded to whole groups.
pub(super) struct LogDensities<'a, T> {
    pub(super) packed: &'a PackedMixture<T>,
    pub(super) chunk: &'a RowChunk<T>,
    pub(super) out: &'a mut [T],
    pub(super) scratch: &'a mut Vec<T>,
}

impl<T: Real> Kernel for LogDensities<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // The tile sizes are constants of the loops: one copy for f32, one for f64.
        match triangle_group::<T>() {
            6 => self.with::<I, 6, 4>(isa),
            _ => self.with::<I, 3, 2>(isa),
        }
    }
}

impl<T: Real> LogDensities<'_, T> {
    #[inline(always)]
    fn with<I: Isa, const G: usize, const P: usize>(self, isa: I) {
        let (d, offsets) = (self.packed.width, &self.packed.offsets);
        let size = self.out.len() / BLOCKS;
        let blocks = self.chunk.columns.chunks_exact(d * LANES);
        let outs = self.out.chunks_exact_mut(size);
        self.scratch
            .resize(d.next_multiple_of(G) * LANES, T::zero());
        let transformed = self.scratch.as_chunks_mut::<LANES>().0;
        for (x, out) in blocks.zip(outs).take(self.chunk.used.div_ceil(LANES)) {
            let (x, out) = (x.as_chunks::<LANES>().0, out.as_chunks_mut::<LANES>().0);
            match &self.packed.weights {
                PackedCovariances::Diagonal(pairs) => {
                    diagonal::<I, T, P>(isa, pairs, x, offsets, out)
                }
                PackedCovariances::Full(triangles) => {
                    let all = triangles.iter().zip(offsets).zip(out);
                    for ((triangle, offset), out) in all {
                        transform::<I, T, G>(isa, triangle, x, transformed);
                        *out = less(*offset, norms(isa, transformed));
                    }
                }
                PackedCovariances::Tied(triangle, pairs) => {
                    transform::<I, T, G>(isa, triangle, x, transformed);
                    diagonal::<I, T, P>(isa, pairs, &transformed[..d], offsets, out);
                }
            }
        }
    }
}

/// `offset - sum`, kept finite so that every sample has a density.
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
    x: &[[T; LANES]],
    offsets: &[T],
    out: &mut [[T; LANES]],
) {
    let groups = pairs.as_chunks::<G>().0.chunks_exact(2 * x.len());
    let outs = out.chunks_mut(G).zip(offsets.chunks(G));
    for (pairs, (out, offsets)) in groups.zip(outs) {
        let sums = squares::<I, T, G>(isa, pairs.as_chunks::<2>().0, x);
        for (r, (out, offset)) in out.iter_mut().zip(offsets).enumerate() {
            *out = less(*offset, sums[r]);
        }
    }
}

#[inline(always)]
fn squares<I: Isa, T: Real, const G: usize>(
    isa: I,
    pairs: &[[[T; G]; 2]],
    x: &[[T; LANES]],
) -> [[T; LANES]; G] {
    let mut sums = [[T::zero(); LANES]; G];
    for (x, [w, b]) in x.iter().zip(pairs) {
        for r in 0..G {
            let mut z = [T::zero(); LANES];
            for i in 0..LANES {
                z[i] = isa.mul_add(x[i], w[r], b[r]);
            }
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(z[i], z[i], sums[r][i]);
            }
        }
    }
    sums
}

/// The sum of the squares of all dimensions, up to a multiple of three.
#[inline(always)]
fn norms<I: Isa, T: Real>(isa: I, z: &[[T; LANES]]) -> [T; LANES] {
    // Three independent sums hide the latency of the additions.
    let mut sums = [[T::zero(); LANES]; 3];
    for z in z.as_chunks::<3>().0 {
        for r in 0..3 {
            let z = z[r];
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(z[i], z[i], sums[r][i]);
            }
        }
    }
    let mut sum = sums[0];
    for i in 0..LANES {
        sum[i] += sums[1][i] + sums[2][i];
    }
    sum
}

/// `W x + b`.
#[inline(always)]
fn transform<I: Isa, T: Real, const G: usize>(
    isa: I,
    triangle: &Triangle<T>,
    x: &[[T; LANES]],
    out: &mut [[T; LANES]],
) {
    let mut matrix = triangle.matrix.as_chunks::<G>().0;
    let groups = triangle.bias.as_chunks::<G>().0.iter();
    for ((first, bias), out) in groups.enumerate().zip(out.chunks_exact_mut(G)) {
        let (part, rest) = matrix.split_at(x.len().min((first + 1) * G));
        matrix = rest;
        out.copy_from_slice(&tile::<I, T, G>(isa, part, bias, x));
    }
}

/// G rows of a matrix times a block of samples.
#[inline(always)]
fn tile<I: Isa, T: Real, const G: usize>(
    isa: I,
    matrix: &[[T; G]],
    bias: &[T; G],
    x: &[[T; LANES]],
) -> [[T; LANES]; G] {
    let mut sums = [[T::zero(); LANES]; G];
    for r in 0..G {
        sums[r] = [bias[r]; LANES];
    }
    for (w, x) in matrix.iter().zip(x) {
        let (w, x) = (*w, *x);
        for r in 0..G {
            let w = w[r];
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(x[i], w, sums[r][i]);
            }
        }
    }
    sums
}
