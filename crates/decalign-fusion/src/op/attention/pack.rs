//! The numbers of heads in the order in which the loops read them.
//!
//! Rows are read once for all heads: a head at a time, every other line of memory would be fetched for a few numbers.

use decalign_core::Real;
use decalign_core::simd::{Isa, Kernel, LANES};

/// Coordinates that are summed side by side.
pub(super) const SLAB: usize = 8;

/// Heads of at most so many coordinates are narrow: as many keys as coordinates are summed side by side.
pub(super) const QUAD: usize = 4;

/// Where a head's numbers lie in the rows of a sample.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Distance of rows.
    pub(super) width: usize,
    /// The head's first coordinate.
    pub(super) start: usize,
    /// How many coordinates it has.
    pub(super) size: usize,
}

impl Place {
    #[inline(always)]
    pub(super) fn row<T>(self, x: &[T], i: usize) -> &[T] {
        &x[i * self.width + self.start..][..self.size]
    }

    #[inline(always)]
    pub(super) fn row_mut<T>(self, x: &mut [T], i: usize) -> &mut [T] {
        &mut x[i * self.width + self.start..][..self.size]
    }
}

/// The heads that a row holds, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    /// How many coordinates each has.
    pub(super) size: usize,
}

impl Heads {
    /// Of a row.
    pub(super) fn width(self) -> usize {
        self.count * self.size
    }

    /// Slabs of a head.
    pub(super) fn slabs(self) -> usize {
        self.size.div_ceil(SLAB)
    }
}

/// The first `size` numbers to the start of a row.
#[inline(always)]
fn put_part<T: Real>(part: [T; SLAB], row: &mut [T], size: usize) {
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

/// A slab of the rows from `first` on, as many as it has coordinates: a coordinate after the other, zeros behind the last
/// row. Coordinates behind those of a head are any numbers, there for the sake of whole reads.
#[inline(always)]
fn turned<T: Real, I: Isa>(
    isa: I,
    x: &[T],
    width: usize,
    (first, column): (usize, usize),
) -> [[T; SLAB]; SLAB] {
    let start = first * width + column;
    if start + (SLAB - 1) * width + SLAB > x.len() {
        return turned_edge(x, width, (first, column));
    }
    let none = [T::zero(); SLAB];
    let mut tile = [&none; SLAB];
    for (i, row) in tile.iter_mut().enumerate() {
        *row = x[start + i * width..].first_chunk().unwrap_or(&none);
    }
    isa.transposed(tile)
}

/// The same where a slab ends behind the rows.
#[inline(never)]
fn turned_edge<T: Real>(
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

/// All rows in groups of R: of each head group after group, the coordinates of a group one after the other, times a
/// factor; zeros behind the end.
pub(super) struct Grouped<'a, T, const R: usize> {
    pub(super) x: &'a [T],
    pub(super) heads: Heads,
    pub(super) factor: T,
    pub(super) out: &'a mut [[T; R]],
}

impl<T: Real, const R: usize> Kernel for Grouped<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Heads { count, size } = self.heads;
        let groups = self.out.len() / (count * size);
        for group in 0..groups {
            for head in 0..count {
                let out = &mut self.out[(head * groups + group) * size..][..size];
                for (s, out) in out.chunks_mut(SLAB).enumerate() {
                    let place = (group * R, head * size + s * SLAB);
                    let part = turned(isa, self.x, count * size, place);
                    for (out, numbers) in out.iter_mut().zip(&part) {
                        out.copy_from_slice(&isa.scaled(self.factor, numbers)[..R]);
                    }
                }
            }
        }
    }
}

/// All rows in blocks of [`LANES`]: of each head block after block, the coordinates of a block one after the other, times
/// a factor; zeros behind the end.
pub(super) struct Blocks<'a, T> {
    pub(super) x: &'a [T],
    pub(super) heads: Heads,
    pub(super) factor: T,
    pub(super) out: &'a mut [[T; LANES]],
}

impl<T: Real> Kernel for Blocks<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Heads { count, size } = self.heads;
        let blocks = self.out.len() / (count * size);
        for half in 0..2 * blocks {
            for head in 0..count {
                let out = &mut self.out[(head * blocks + half / 2) * size..][..size];
                for (s, out) in out.chunks_mut(SLAB).enumerate() {
                    let place = (half * SLAB, head * size + s * SLAB);
                    let part = turned(isa, self.x, count * size, place);
                    for (out, numbers) in out.iter_mut().zip(&part) {
                        out.as_chunks_mut().0[half % 2] = isa.scaled(self.factor, numbers);
                    }
                }
            }
        }
    }
}

/// [`Blocks`] back to rows, times a factor.
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
                    let turned = isa.transposed(tile);
                    let rows = rows.chunks_exact_mut(count * size);
                    for (row, numbers) in rows.zip(&turned) {
                        let numbers = isa.scaled(self.factor, numbers);
                        put_part(numbers, &mut row[head * size + s * SLAB..], block.len());
                    }
                }
            }
        }
    }
}

/// All rows by blocks of [`LANES`]: of each head block after block, the rows of a block in slabs of [`SLAB`] coordinates,
/// slab after slab, times a factor; zeros behind the last coordinate.
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

/// [`Blocks`] of narrow heads in quads: of each block four vectors, of four keys each, with the four numbers of a coordinate
/// side by side.
pub(super) fn quads<T: Real>(blocks: &[[T; LANES]], size: usize) -> Vec<[T; SLAB]> {
    const VECTORS: usize = QUAD * LANES / SLAB;
    let mut quads = vec![[T::zero(); SLAB]; blocks.len() / size * VECTORS];
    let (to, _) = quads.as_chunks_mut::<VECTORS>();
    for (block, to) in blocks.chunks_exact(size).zip(to) {
        let (to, _) = to.as_flattened_mut().as_chunks_mut::<QUAD>();
        for (c, row) in block.iter().enumerate() {
            for (keys, numbers) in row.as_chunks().0.iter().enumerate() {
                to[keys * QUAD + c] = *numbers;
            }
        }
    }
    quads
}

/// Rows of slabs, each times its factor, to the first `count` rows from `first` on.
pub(super) struct Placed<'a, T, const R: usize> {
    pub(super) slabs: &'a [[[T; SLAB]; R]],
    pub(super) factors: [T; SLAB],
    pub(super) place: Place,
    pub(super) rows: (usize, usize),
    pub(super) out: &'a mut [T],
}

impl<T: Real, const R: usize> Kernel for Placed<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (first, count) = self.rows;
        for (s, from) in self.slabs.iter().enumerate() {
            let coordinate = s * SLAB;
            let size = SLAB.min(self.place.size - coordinate);
            for r in 0..count {
                let numbers = isa.scaled(self.factors[r], &from[r]);
                let row = (first + r) * self.place.width + self.place.start;
                put_part(numbers, &mut self.out[row + coordinate..], size);
            }
        }
    }
}

/// The larger of two numbers; NaN if one of them is.
#[inline(always)]
fn larger_or_nan<T: Real>(a: T, b: T) -> T {
    if b <= a || a.is_nan() { a } else { b }
}

/// The largest sum of squares of rows, which lie as [`Grouped`] or [`Blocks`] leave them.
pub(super) struct LargestSquare<'a, T, const N: usize> {
    pub(super) rows: &'a [[T; N]],
    /// How many coordinates each has.
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

/// What the logits of blocks of keys start from: 0 for keys that exist, -inf for others and behind the end.
pub(super) fn starts<T: Real>(keys: usize, mask: Option<&[T]>) -> Vec<[T; LANES]> {
    let mut starts = vec![[T::neg_infinity(); LANES]; keys.div_ceil(LANES)];
    let flat = starts.as_flattened_mut();
    match mask {
        None => flat[..keys].fill(T::zero()),
        Some(mask) => {
            for (start, m) in flat.iter_mut().zip(mask) {
                if *m != T::zero() {
                    *start = T::zero();
                }
            }
        }
    }
    starts
}
