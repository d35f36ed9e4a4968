//! One head of one sample in the order in which the loops read it.

use decalign_core::Real;
use decalign_core::simd::LANES;

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

    /// The head's part of row i.
    pub(super) fn row<T>(self, x: &[T], i: usize) -> &[T] {
        &x[i * self.width + self.start..][..self.size]
    }

    /// As [`Place::row`].
    pub(super) fn row_mut<T>(self, x: &mut [T], i: usize) -> &mut [T] {
        &mut x[i * self.width + self.start..][..self.size]
    }
}

/// Rows, coordinate by coordinate for each group of `G` of them: `[group][coordinate][G]`; zeros behind the end.
pub(super) fn grouped<T: Real, const G: usize>(x: &[T], place: Place, factor: T, out: &mut Vec<T>) {
    let rows = x.len() / place.width.max(1);
    out.clear();
    out.resize(rows.next_multiple_of(G) * place.size, T::zero());
    for (i, row) in x.chunks_exact(place.width).enumerate() {
        let group = &mut out[i / G * G * place.size..][..G * place.size];
        let row = &row[place.start..][..place.size];
        for (to, v) in group.as_chunks_mut::<G>().0.iter_mut().zip(row) {
            to[i % G] = *v * factor;
        }
    }
}

/// Rows in slabs of [`SLAB`] coordinates: `[slab][row][SLAB]`, rows up to a multiple of `multiple`.
pub(super) fn slabs<T: Real>(x: &[T], place: Place, multiple: usize, out: &mut Vec<[T; SLAB]>) {
    let rows = x.len() / place.width.max(1);
    let padded = rows.next_multiple_of(multiple);
    out.clear();
    out.resize(padded * place.slabs(), [T::zero(); SLAB]);
    for (i, row) in x.chunks_exact(place.width).enumerate() {
        let row = &row[place.start..][..place.size];
        for (s, part) in row.chunks(SLAB).enumerate() {
            out[s * padded + i][..part.len()].copy_from_slice(part);
        }
    }
}

/// [`slabs`] back to rows of a sample.
pub(super) fn unpack<T: Real>(slabs: &[[T; SLAB]], place: Place, x: &mut [T]) {
    let padded = slabs.len() / place.slabs().max(1);
    for (i, row) in x.chunks_exact_mut(place.width).enumerate() {
        let row = &mut row[place.start..][..place.size];
        for (s, part) in row.chunks_mut(SLAB).enumerate() {
            let n = part.len();
            part.copy_from_slice(&slabs[s * padded + i][..n]);
        }
    }
}

/// 0 for keys that exist, -inf for others and behind the end.
pub(super) fn biases<T: Real>(keys: usize, mask: Option<&[T]>) -> Vec<T> {
    let mut bias = vec![T::neg_infinity(); keys.next_multiple_of(LANES)];
    match mask {
        None => bias[..keys].fill(T::zero()),
        Some(mask) => {
            for (bias, m) in bias.iter_mut().zip(mask) {
                if *m != T::zero() {
                    *bias = T::zero();
                }
            }
        }
    }
    bias
}
