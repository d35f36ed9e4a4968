//! The layouts of queries, keys and values that the attention loops read.
//!
//! Rows are read once for all heads. One head at a time would fetch a cache line for a few values of it.

use decalign_core::Real;
use decalign_core::simd::{Isa, Kernel, LANES};

/// Coordinates summed in one vector: 8 f32 fill a 256-bit register, 8 f64 a 512-bit one.
pub(super) const SLAB: usize = 8;

/// Heads of at most this many coordinates are narrow: a vector holds this many coordinates of as many keys.
pub(super) const QUAD: usize = 4;

/// Where the coordinates of a head are in the rows of a sample.
#[derive(Clone, Copy)]
pub(super) struct HeadLayout {
    /// The width of a row.
    pub(super) width: usize,
    /// The first coordinate of the head.
    pub(super) start: usize,
    /// The number of its coordinates.
    pub(super) size: usize,
}

impl HeadLayout {
    #[inline(always)]
    pub(super) fn row<T>(self, x: &[T], i: usize) -> &[T] {
        &x[i * self.width + self.start..][..self.size]
    }

    #[inline(always)]
    pub(super) fn row_mut<T>(self, x: &mut [T], i: usize) -> &mut [T] {
        &mut x[i * self.width + self.start..][..self.size]
    }
}

/// The heads of a row, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    /// The number of coordinates of each.
    pub(super) size: usize,
}

impl Heads {
    /// The width of a row.
    pub(super) fn width(self) -> usize {
        self.count * self.size
    }

    /// The number of slabs of a head.
    pub(super) fn slabs(self) -> usize {
        self.size.div_ceil(SLAB)
    }
}

/// Copies the first `size` values to the start of a row; whole and half slabs are copied as vectors.
#[inline(always)]
fn store_slab<T: Real>(part: [T; SLAB], row: &mut [T], size: usize) {
    if size == SLAB
        && let Some(whole) = row.first_chunk_mut::<SLAB>()
    {
        *whole = part;
    } else if size == 4
        && let Some(half) = row.first_chunk_mut::<4>()
    {
        half.copy_from_slice(&part[..4]);
    } else {
        for (c, v) in part.iter().enumerate().take(size) {
            row[c] = *v;
        }
    }
}

/// The transpose of a tile of [`SLAB`] rows from `first` on and as many coordinates from `column` on, zeros after the last row. Whole
/// vectors are read: columns after those of the head hold arbitrary values.
#[inline(always)]
fn transposed_tile<T: Real, I: Isa>(
    isa: I,
    x: &[T],
    width: usize,
    (first, column): (usize, usize),
) -> [[T; SLAB]; SLAB] {
    let start = first * width + column;
    if start + (SLAB - 1) * width + SLAB > x.len() {
        return transposed_edge(x, width, (first, column));
    }
    let none = [T::zero(); SLAB];
    let mut tile = [&none; SLAB];
    for (i, row) in tile.iter_mut().enumerate() {
        *row = x[start + i * width..].first_chunk().unwrap_or(&none);
    }
    isa.transposed(tile)
}

/// [`transposed_tile`] where a whole vector cannot be read.
#[inline(never)]
fn transposed_edge<T: Real>(
    x: &[T],
    width: usize,
    (first, column): (usize, usize),
) -> [[T; SLAB]; SLAB] {
    let mut out = [[T::zero(); SLAB]; SLAB];
    let rows = x.chunks_exact(width).skip(first).take(SLAB);
    for (i, row) in rows.enumerate() {
        for (out, v) in out.iter_mut().zip(&row[column..]) {
            out[i] = *v;
        }
    }
    out
}

/// All rows in blocks of N (groups of queries, or [`LANES`] keys): for each head block after block, the coordinates of a block one
/// after the other, times a factor; padded with zeros.
pub(super) struct Blocks<'a, T, const N: usize> {
    pub(super) x: &'a [T],
    pub(super) heads: Heads,
    pub(super) factor: T,
    pub(super) out: &'a mut [[T; N]],
}

impl<T: Real, const N: usize> Kernel for Blocks<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Heads { count, size } = self.heads;
        let blocks = self.out.len() / (count * size);
        for block in 0..blocks {
            // N is a multiple of SLAB (keys), or less (queries).
            for part in 0..N.div_ceil(SLAB) {
                for head in 0..count {
                    let out = &mut self.out[(head * blocks + block) * size..][..size];
                    for (s, out) in out.chunks_mut(SLAB).enumerate() {
                        let at = (block * N + part * SLAB, head * size + s * SLAB);
                        let tile = transposed_tile(isa, self.x, count * size, at);
                        for (out, values) in out.iter_mut().zip(&tile) {
                            let values = isa.scaled(self.factor, values);
                            match N.is_multiple_of(SLAB) {
                                true => out.as_chunks_mut::<SLAB>().0[part] = values,
                                false => out.copy_from_slice(&values[..N]),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The inverse of [`Blocks`], times a factor.
pub(super) struct Unblocked<'a, T> {
    pub(super) blocks: &'a [[T; LANES]],
    pub(super) heads: Heads,
    pub(super) factor: T,
    pub(super) x: &'a mut [T],
}

impl<T: Real> Kernel for Unblocked<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Heads { count, size } = self.heads;
        let blocks = self.blocks.len() / (count * size);
        let zeros = [T::zero(); SLAB];
        for (half, rows) in self.x.chunks_mut(SLAB * count * size).enumerate() {
            for head in 0..count {
                let block = &self.blocks[(head * blocks + half / 2) * size..][..size];
                for (s, block) in block.chunks(SLAB).enumerate() {
                    let mut tile = [&zeros; SLAB];
                    for (to, from) in tile.iter_mut().zip(block) {
                        *to = &from.as_chunks().0[half % 2];
                    }
                    let transposed = isa.transposed(tile);
                    let rows = rows.chunks_exact_mut(count * size);
                    for (row, values) in rows.zip(&transposed) {
                        let values = isa.scaled(self.factor, values);
                        store_slab(values, &mut row[head * size + s * SLAB..], block.len());
                    }
                }
            }
        }
    }
}

/// All rows in blocks of [`LANES`]: for each head block after block, the rows of a block in slabs of [`SLAB`] coordinates, slab after
/// slab, times a factor; padded with zeros.
pub(super) struct Slabs<'a, T> {
    pub(super) x: &'a [T],
    pub(super) heads: Heads,
    pub(super) factor: T,
    pub(super) out: &'a mut [[T; SLAB]],
}

impl<T: Real> Kernel for Slabs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (Heads { count, size }, slabs) = (self.heads, self.heads.slabs());
        let blocks = self.out.len() / (count * slabs * LANES);
        for i in 0..self.x.len() / (count * size) {
            for head in 0..count {
                let block = head * blocks + i / LANES;
                for s in 0..slabs {
                    let row = &self.x[(i * count + head) * size + s * SLAB..];
                    let here = size - s * SLAB;
                    let out = &mut self.out[(block * slabs + s) * LANES + i % LANES];
                    match row.first_chunk::<SLAB>() {
                        Some(row) => {
                            for c in 0..SLAB {
                                out[c] = if c < here {
                                    row[c] * self.factor
                                } else {
                                    T::zero()
                                };
                            }
                        }
                        None => {
                            for (out, v) in out.iter_mut().zip(row).take(here) {
                                *out = *v * self.factor;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// [`Blocks`] of narrow heads in quads: each block has four vectors of four keys, with the four coordinates of a key side by side.
pub(super) fn quads<T: Real>(blocks: &[[T; LANES]], size: usize) -> Vec<[T; SLAB]> {
    const VECTORS: usize = QUAD * LANES / SLAB;
    let mut quads = vec![[T::zero(); SLAB]; blocks.len() / size * VECTORS];
    let (to, _) = quads.as_chunks_mut::<VECTORS>();
    for (block, to) in blocks.chunks_exact(size).zip(to) {
        let (to, _) = to.as_flattened_mut().as_chunks_mut::<QUAD>();
        for (c, row) in block.iter().enumerate() {
            for (keys, values) in row.as_chunks().0.iter().enumerate() {
                to[keys * QUAD + c] = *values;
            }
        }
    }
    quads
}

/// Copies slabs to `rows` (the first one and their number), each row multiplied by its factor.
pub(super) struct StoreSlabs<'a, T, const R: usize> {
    pub(super) slabs: &'a [[[T; SLAB]; R]],
    pub(super) factors: [T; SLAB],
    pub(super) layout: HeadLayout,
    pub(super) rows: (usize, usize),
    pub(super) out: &'a mut [T],
}

impl<T: Real, const R: usize> Kernel for StoreSlabs<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (first, count) = self.rows;
        for (s, from) in self.slabs.iter().enumerate() {
            let coordinate = s * SLAB;
            let size = SLAB.min(self.layout.size - coordinate);
            for r in 0..count {
                let values = isa.scaled(self.factors[r], &from[r]);
                let row = (first + r) * self.layout.width + self.layout.start;
                store_slab(values, &mut self.out[row + coordinate..], size);
            }
        }
    }
}

/// The larger of two values; NaN if one of them is.
#[inline(always)]
fn larger_or_nan<T: Real>(a: T, b: T) -> T {
    if b <= a || a.is_nan() { a } else { b }
}

/// The largest squared norm of rows in [`Blocks`].
pub(super) struct LargestSquare<'a, T, const N: usize> {
    pub(super) rows: &'a [[T; N]],
    /// The number of coordinates of a row.
    pub(super) size: usize,
}

impl<T: Real, const N: usize> Kernel for LargestSquare<'_, T, N> {
    type Output = T;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> T {
        let mut most = [T::zero(); N];
        for rows in self.rows.chunks_exact(self.size) {
            let mut sums = [T::zero(); N];
            for row in rows {
                for i in 0..N {
                    sums[i] = isa.mul_add(row[i], row[i], sums[i]);
                }
            }
            for i in 0..N {
                most[i] = larger_or_nan(most[i], sums[i]);
            }
        }
        most.into_iter().fold(T::zero(), larger_or_nan)
    }
}

/// The initial values of the logits of blocks of keys: 0 for keys that exist, -inf for masked keys and padding.
pub(super) fn initial_logits<T: Real>(keys: usize, mask: Option<&[T]>) -> Vec<[T; LANES]> {
    let mut initial = vec![[T::neg_infinity(); LANES]; keys.div_ceil(LANES)];
    let flat = initial.as_flattened_mut();
    match mask {
        None => flat[..keys].fill(T::zero()),
        Some(mask) => {
            for (logit, m) in flat.iter_mut().zip(mask) {
                if *m != T::zero() {
                    *logit = T::zero();
                }
            }
        }
    }
    initial
}
