//! Sufficient statistics of a chunk about the components' centres: lanes are dimensions.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::packed::triangle_group;
use crate::parameters::MixtureParameters;
use crate::row_chunk::{BLOCKS, ROWS, RowChunk, stride};
use crate::statistics::{SecondMoment, SufficientStatistics};

/// Means in padded rows.
pub(crate) struct Centres<T>(Vec<T>);

impl<T: Real> Centres<T> {
    pub(crate) fn new(mixture: &MixtureParameters) -> Self {
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

/// Adds the statistics of a chunk, each row counted with the coefficient in its cell.
pub(crate) struct Accumulate<'a, T> {
    pub(crate) chunk: &'a RowChunk<T>,
    pub(crate) cells: &'a [T],
    pub(crate) centres: &'a Centres<T>,
    pub(crate) second: SecondMoment,
    pub(crate) scratch: &'a mut Vec<T>,
    pub(crate) statistics: &'a mut SufficientStatistics,
}

impl<T: Real> Kernel for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let cells = self.cells.as_chunks::<LANES>().0;
        let size = cells.len() / BLOCKS;
        for (k, s0) in self.statistics.s0.iter_mut().enumerate() {
            let mut sum = [T::zero(); LANES];
            for cells in cells.chunks_exact(size).take(self.chunk.blocks()) {
                let cell = cells[k];
                for i in 0..LANES {
                    sum[i] += cell[i];
                }
            }
            *s0 += simd::total(sum).as_f64();
        }
        match (self.second, triangle_group::<T>()) {
            (SecondMoment::Matrix, 6) => self.matrices::<I, 6>(isa),
            (SecondMoment::Matrix, _) => self.matrices::<I, 3>(isa),
            (_, 6) => self.diagonals::<I, 2>(isa),
            (_, _) => self.diagonals::<I, 1>(isa),
        }
    }
}

impl<T: Real> Accumulate<'_, T> {
    #[inline(always)]
    fn diagonals<I: Isa, const G: usize>(self, isa: I) {
        let (k, stride) = (self.statistics.s0.len(), self.chunk.stride);
        let d = self.statistics.s1.len() / k;
        let cells = self.cells.as_chunks::<LANES>().0;
        let rows = self.chunk.rows.as_chunks::<LANES>().0;
        for first in (0..k).step_by(G) {
            for (block, rows) in rows.chunks_exact(ROWS).enumerate().take(d.div_ceil(LANES)) {
                let mut centres = [[T::zero(); LANES]; G];
                for (g, centre) in centres.iter_mut().enumerate() {
                    *centre = self.centres.block(first + g, block, stride);
                }
                let rows = &rows[..self.chunk.blocks() * LANES];
                let [sums, squares] = diagonal(isa, rows, cells, first, &centres);
                for g in 0..G.min(k - first) {
                    let at = (first + g) * d + block * LANES;
                    add(&mut self.statistics.s1, at, (first + g + 1) * d, &sums[g]);
                    if self.second == SecondMoment::Diagonal {
                        add(
                            &mut self.statistics.s2,
                            at,
                            (first + g + 1) * d,
                            &squares[g],
                        );
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn matrices<I: Isa, const G: usize>(self, isa: I) {
        let (k, stride) = (self.statistics.s0.len(), self.chunk.stride);
        let d = self.statistics.s1.len() / k;
        let (blocks, used) = (d.div_ceil(LANES), self.chunk.blocks() * LANES);
        self.scratch.resize(2 * ROWS * stride, T::zero());
        let (plain, scaled) = self.scratch.split_at_mut(ROWS * stride);
        let plain = plain.as_chunks_mut::<LANES>().0;
        let cells = self.cells.as_chunks::<LANES>().0;
        let mut group = [[T::zero(); G]; ROWS];
        for k in 0..k {
            let rows = self.chunk.rows.as_chunks::<LANES>().0.chunks_exact(ROWS);
            let outs = plain.chunks_exact_mut(ROWS);
            for (block, (rows, out)) in rows.zip(outs).enumerate().take(blocks) {
                let centre = self.centres.block(k, block, stride);
                let scaled = &mut scaled[block * LANES..];
                let rows = &rows[..used];
                let sum = centred(rows, cells, k, &centre, out, (scaled, stride));
                let at = k * d + block * LANES;
                add(&mut self.statistics.s1, at, (k + 1) * d, &sum);
            }
            for first in (0..d).step_by(G) {
                let last = (d.min(first + G) - 1) / LANES;
                // Contiguous, as the tile reads them.
                for (to, from) in group.iter_mut().zip(scaled.chunks_exact(stride)) {
                    to.copy_from_slice(&from[first..first + G]);
                }
                for (block, e) in plain.chunks_exact(ROWS).enumerate().take(last + 1) {
                    let sums = outer::<I, T, G>(isa, &e[..used], &group);
                    for (r, sums) in sums.iter().enumerate().take(d - first) {
                        let row = (k * d + first + r) * d;
                        add(&mut self.statistics.s2, row + block * LANES, row + d, sums);
                    }
                }
            }
        }
    }
}

/// `sum c e` and `sum c e^2` of a block of dimensions, for G components.
#[inline(always)]
fn diagonal<I: Isa, T: Real, const G: usize>(
    isa: I,
    rows: &[[T; LANES]],
    cells: &[[T; LANES]],
    first: usize,
    centres: &[[T; LANES]; G],
) -> [[[T; LANES]; G]; 2] {
    let mut sums = [[T::zero(); LANES]; G];
    let mut squares = [[T::zero(); LANES]; G];
    let size = cells.len() / BLOCKS;
    for (rows, cells) in rows
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(cells.chunks_exact(size))
    {
        let Some(cells) = cells[first..].first_chunk::<G>() else {
            continue;
        };
        for (n, x) in rows.iter().enumerate() {
            for g in 0..G {
                let c = cells[g][n];
                let (mut e, mut t) = ([T::zero(); LANES], [T::zero(); LANES]);
                for i in 0..LANES {
                    e[i] = x[i] - centres[g][i];
                }
                for i in 0..LANES {
                    t[i] = c * e[i];
                }
                for i in 0..LANES {
                    sums[g][i] += t[i];
                }
                for i in 0..LANES {
                    squares[g][i] = isa.mul_add(t[i], e[i], squares[g][i]);
                }
            }
        }
    }
    [sums, squares]
}

/// Writes `e = x - m` of a block of dimensions, and `c e` to rows of a stride; returns the sum of these.
#[inline(always)]
fn centred<T: Real>(
    rows: &[[T; LANES]],
    cells: &[[T; LANES]],
    k: usize,
    centre: &[T; LANES],
    plain: &mut [[T; LANES]],
    (scaled, stride): (&mut [T], usize),
) -> [T; LANES] {
    let mut sum = [T::zero(); LANES];
    let size = cells.len() / BLOCKS;
    let coefficients = cells.chunks_exact(size).flat_map(|cells| &cells[k]);
    let outs = plain.iter_mut().zip(scaled.chunks_mut(stride));
    for ((x, c), (plain, scaled)) in rows.iter().zip(coefficients).zip(outs) {
        let (mut e, mut t) = (*x, *x);
        for i in 0..LANES {
            e[i] -= centre[i];
        }
        for i in 0..LANES {
            t[i] = *c * e[i];
        }
        for i in 0..LANES {
            sum[i] += t[i];
        }
        *plain = e;
        scaled[..LANES].copy_from_slice(&t);
    }
    sum
}

/// `sum t e^T` of G rows and a block of columns.
#[inline(always)]
fn outer<I: Isa, T: Real, const G: usize>(
    isa: I,
    e: &[[T; LANES]],
    t: &[[T; G]],
) -> [[T; LANES]; G] {
    let mut sums = [[T::zero(); LANES]; G];
    for (t, e) in t.iter().zip(e) {
        let (t, e) = (*t, *e);
        for r in 0..G {
            let t = t[r];
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(e[i], t, sums[r][i]);
            }
        }
    }
    sums
}

/// Adds lanes to `to[at..end]`.
#[inline(always)]
fn add<T: Real>(to: &mut [f64], at: usize, end: usize, lanes: &[T; LANES]) {
    for (t, v) in to[at..end].iter_mut().zip(lanes) {
        *t += v.as_f64();
    }
}
