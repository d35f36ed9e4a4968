//! The numbers of a head in the order in which the loops read them.

use decalign_core::Real;
use decalign_core::simd::{Isa, Kernel, LANES};

/// Coordinates that are summed side by side.
pub(super) const SLAB: usize = 8;

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
    pub(super) fn slabs(self) -> usize {
        self.size.div_ceil(SLAB)
    }

    #[inline(always)]
    pub(super) fn row<T>(self, x: &[T], i: usize) -> &[T] {
        &x[i * self.width + self.start..][..self.size]
    }

    #[inline(always)]
    pub(super) fn row_mut<T>(self, x: &mut [T], i: usize) -> &mut [T] {
        &mut x[i * self.width + self.start..][..self.size]
    }
}

/// R rows from `first` on, one coordinate after the other; zeros behind the end.
pub(super) fn group<T: Real, const R: usize>(
    x: &[T],
    place: Place,
    (first, count): (usize, usize),
    factor: T,
    out: &mut [[T; R]],
) {
    if count < R {
        out.fill([T::zero(); R]);
    }
    for r in 0..count.min(R) {
        for (to, v) in out.iter_mut().zip(place.row(x, first + r)) {
            to[r] = *v * factor;
        }
    }
}

/// All rows in blocks of [`LANES`], the coordinates of a block one after the other; zeros behind the end.
pub(super) struct Blocks<'a, T> {
    pub(super) x: &'a [T],
    pub(super) place: Place,
    pub(super) factor: T,
    pub(super) out: &'a mut [[T; LANES]],
}

impl<T: Real> Kernel for Blocks<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let place = self.place;
        let rows = self.x.chunks(LANES * place.width.max(1));
        for (rows, out) in rows.zip(self.out.chunks_exact_mut(place.size)) {
            for (s, out) in out.chunks_mut(SLAB).enumerate() {
                let mut part = [[T::zero(); SLAB]; LANES];
                let rows = rows.chunks_exact(place.width);
                for (to, row) in part.iter_mut().zip(rows) {
                    let row = &row[place.start + s * SLAB..];
                    match row.first_chunk::<SLAB>().filter(|_| out.len() == SLAB) {
                        Some(whole) => *to = *whole,
                        None => to[..out.len()].copy_from_slice(&row[..out.len()]),
                    }
                }
                let (halves, _) = part.as_chunks::<SLAB>();
                let (first, second) = (isa.transposed(&halves[0]), isa.transposed(&halves[1]));
                for ((out, a), b) in out.iter_mut().zip(&first).zip(&second) {
                    for i in 0..SLAB {
                        out[i] = a[i] * self.factor;
                        out[i + SLAB] = b[i] * self.factor;
                    }
                }
            }
        }
    }
}

/// [`Blocks`] back to rows, times a factor.
pub(super) struct Unblocked<'a, T> {
    pub(super) blocks: &'a [[T; LANES]],
    pub(super) place: Place,
    pub(super) factor: T,
    pub(super) x: &'a mut [T],
}

impl<T: Real> Kernel for Unblocked<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let place = self.place;
        let rows = self.x.chunks_mut(LANES * place.width.max(1));
        for (rows, block) in rows.zip(self.blocks.chunks_exact(place.size)) {
            for (s, block) in block.chunks(SLAB).enumerate() {
                let mut part = [[[T::zero(); SLAB]; SLAB]; 2];
                for (c, from) in block.iter().enumerate() {
                    for i in 0..SLAB {
                        part[0][c][i] = from[i] * self.factor;
                        part[1][c][i] = from[i + SLAB] * self.factor;
                    }
                }
                let part = [isa.transposed(&part[0]), isa.transposed(&part[1])];
                let rows = rows.chunks_exact_mut(place.width);
                for (row, from) in rows.zip(part.as_flattened()) {
                    let row = &mut row[place.start + s * SLAB..];
                    match row
                        .first_chunk_mut::<SLAB>()
                        .filter(|_| block.len() == SLAB)
                    {
                        Some(whole) => *whole = *from,
                        None => row[..block.len()].copy_from_slice(&from[..block.len()]),
                    }
                }
            }
        }
    }
}

/// All rows by blocks of [`LANES`], the rows of a block in slabs of [`SLAB`] coordinates, slab after slab.
pub(super) fn slabs<T: Real>(x: &[T], place: Place, factor: T, out: &mut Vec<[T; SLAB]>) {
    let rows = x.len() / place.width.max(1);
    out.clear();
    out.resize(
        rows.next_multiple_of(LANES) * place.slabs(),
        [T::zero(); SLAB],
    );
    let blocks = x.chunks(LANES * place.width.max(1));
    for (rows, out) in blocks.zip(out.chunks_exact_mut(LANES * place.slabs())) {
        for (s, out) in out.chunks_exact_mut(LANES).enumerate() {
            let first = place.start + s * SLAB;
            let here = SLAB.min(place.size - s * SLAB);
            for (row, out) in rows.chunks_exact(place.width).zip(out) {
                match row[first..].first_chunk::<SLAB>().filter(|_| here == SLAB) {
                    Some(whole) => *out = *whole,
                    None => out[..here].copy_from_slice(&row[first..][..here]),
                }
                out.iter_mut().for_each(|v| *v *= factor);
            }
        }
    }
}

/// Row r of slabs times a factor, to its place.
pub(super) fn place_row<T: Real, const R: usize>(
    slabs: &[[[T; SLAB]; R]],
    r: usize,
    factor: T,
    row: &mut [T],
) {
    for (part, from) in row.chunks_mut(SLAB).zip(slabs) {
        let from = from[r].map(|v| v * factor);
        match part.first_chunk_mut::<SLAB>() {
            Some(whole) => *whole = from,
            None => part.copy_from_slice(&from[..part.len()]),
        }
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
