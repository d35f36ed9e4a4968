//! Points in the order in which tiles read them.

use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

/// Panels are padded to a multiple of this: of every tile and of every block.
const PAD: usize = 48;

/// Rows of a tile.
pub(super) const fn group<T>() -> usize {
    if size_of::<T>() == 4 { 6 } else { 3 }
}

/// Points in the order in which tiles read them, with zeros up to whole tiles.
#[derive(Clone, Debug, Default)]
pub struct Panels<T> {
    pub(super) len: usize,
    pub(super) width: usize,
    /// Groups of as many rows as a tile has, coordinate after coordinate.
    pub(super) groups: Vec<T>,
    /// Blocks of [`LANES`] rows, likewise.
    pub(super) blocks: Vec<T>,
    /// [`LANES`] coordinates of all rows, row after row, then the next coordinates.
    pub(super) slabs: Vec<T>,
    pub(super) norms: Vec<T>,
}

impl<T: Real> Panels<T> {
    /// Points given row after row.
    ///
    /// # Panics
    /// When `width` is 0 or does not divide the length of `rows`.
    pub fn new(rows: &[T], width: usize) -> Self {
        assert!(
            rows.len().is_multiple_of(width),
            "rows are not of width {width}"
        );
        let mut panels = Self {
            len: rows.len() / width,
            width,
            groups: grouped(rows, width, group::<T>()),
            blocks: grouped(rows, width, LANES),
            slabs: Vec::new(),
            norms: vec![T::zero(); (rows.len() / width).next_multiple_of(PAD)],
        };
        simd::dispatch(Norms(&mut panels));
        panels
    }

    /// As [`Panels::new`], to be given to [`super::add_product`] and [`super::add_transposed`] too.
    ///
    /// # Panics
    /// As [`Panels::new`].
    pub fn with_slabs(rows: &[T], width: usize) -> Self {
        let mut panels = Self::new(rows, width);
        panels.slabs = vec![T::zero(); panels.slab_len()];
        let padded = panels.padded();
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (slab, part) in row.chunks(LANES).enumerate() {
                panels.slabs[(slab * padded + i) * LANES..][..part.len()].copy_from_slice(part);
            }
        }
        panels
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many coordinates they have.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of points up to whole tiles.
    pub fn padded(&self) -> usize {
        self.norms.len()
    }

    /// `|x|^2` of every point, zeros behind the end. In f32 as the tiles compute it.
    pub fn norms(&self) -> &[T] {
        &self.norms
    }

    /// How many numbers a sum over these points has, as [`super::add_product`] lays it out.
    pub fn slab_len(&self) -> usize {
        self.padded() * self.width.next_multiple_of(LANES)
    }

    /// The coordinates of all points as slabs; empty without [`Panels::with_slabs`].
    pub fn slabs(&self) -> &[T] {
        &self.slabs
    }
}

/// From slabs (see [`Panels::slab_len`]) of `padded` points back to `len` rows.
pub fn rows_of_slabs<T: Real>(slabs: &[T], padded: usize, len: usize, width: usize) -> Vec<T> {
    let mut rows = Vec::with_capacity(len * width);
    for i in 0..len {
        for start in (0..width).step_by(LANES) {
            let at = (start / LANES * padded + i) * LANES;
            rows.extend_from_slice(&slabs[at..][..LANES.min(width - start)]);
        }
    }
    rows
}

/// Rows in groups of `size`, coordinate after coordinate, with zeros up to whole tiles.
fn grouped<T: Real>(x: &[T], width: usize, size: usize) -> Vec<T> {
    let mut groups = vec![T::zero(); (x.len() / width).next_multiple_of(PAD) * width];
    for (i, row) in x.chunks_exact(width).enumerate() {
        let group = &mut groups[(i / size) * size * width..][..size * width];
        for (k, v) in row.iter().enumerate() {
            group[k * size + i % size] = *v;
        }
    }
    groups
}

/// Squared lengths, added in the order of the tiles: equal points are exactly 0 apart.
struct Norms<'a, T>(&'a mut Panels<T>);

impl<T: Real> Kernel for Norms<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Panels {
            blocks,
            norms,
            width,
            ..
        } = self.0;
        let blocks = blocks.chunks_exact(*width * LANES);
        for (norm, block) in norms.as_chunks_mut::<LANES>().0.iter_mut().zip(blocks) {
            let mut sums = [T::zero(); LANES];
            for x in block.as_chunks::<LANES>().0 {
                for i in 0..LANES {
                    sums[i] = isa.mul_add(x[i], x[i], sums[i]);
                }
            }
            *norm = sums;
        }
    }
}
