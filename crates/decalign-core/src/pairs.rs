//! All pairs of two sets of points, a register tile at a time.
//!
//! A tile is a few rows (6 in f32, 3 in f64) of one set against [`LANES`] points of the other: as
//! many sums as the registers of 256-bit vectors hold. [`Panels`] keeps points in the order in which
//! tiles read them. [`fill`] writes inner products or distances of up to [`STRIP`] by [`CHUNK`]
//! pairs to a buffer that stays in the nearest caches; [`add_product`] and [`add_transposed`] take such
//! a buffer of weights back to either set. Each is one call that is compiled once for every
//! instruction set, however many loops use it.

use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

/// The most rows of a buffer; a multiple of every tile.
pub const STRIP: usize = 96;
/// The most columns of a buffer, and the distance of its rows; a multiple of every tile.
pub const CHUNK: usize = 96;

/// Panels are padded to a multiple of this: of every tile and of every block.
const PAD: usize = 48;

/// Rows of a tile.
const fn group<T>() -> usize {
    if size_of::<T>() == 4 { 6 } else { 3 }
}

/// What [`fill`] computes of two points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// `x . y`.
    Dot,
    /// `|x - y|^2` as `|x|^2 + |y|^2 - 2 x . y`: fastest. The error is a few eps of `|x|^2 + |y|^2`, so
    /// points should lie about 0; equal points are exactly 0 apart.
    Squared,
    /// `|x - y|^2` from differences: half as fast, exact to a few eps of itself.
    SquaredDifferences,
    /// `sum_k |x_k - y_k|`.
    CityBlock,
}

/// Points in the order in which tiles read them, with zeros up to whole tiles.
#[derive(Clone, Debug, Default)]
pub struct Panels<T> {
    len: usize,
    width: usize,
    /// Groups of as many rows as a tile has, coordinate after coordinate.
    groups: Vec<T>,
    /// Blocks of [`LANES`] rows, likewise.
    blocks: Vec<T>,
    /// [`LANES`] coordinates of all rows, row after row, then the next coordinates.
    slabs: Vec<T>,
    norms: Vec<T>,
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

    /// As [`Panels::new`], to be given to [`add_product`] and [`add_transposed`] too.
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

    /// How many numbers a sum over these points has, as [`add_product`] lays it out.
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

/// Some of the points of a set.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The first, a multiple of [`STRIP`].
    pub first: usize,
    /// How many.
    pub len: usize,
}

/// Writes the measure of every pair of `rows` of `x` and `columns` of `y` to `out`, whose rows are
/// [`CHUNK`] apart. Columns up to a multiple of [`LANES`] are written, for what is behind the end the
/// measure to 0.
///
/// # Panics
/// When the widths differ, or a part is larger than a buffer or begins elsewhere than it may.
pub fn fill<T: Real>(
    measure: Measure,
    (x, rows): (&Panels<T>, Part),
    (y, columns): (&Panels<T>, Part),
    out: &mut [T; STRIP * CHUNK],
) {
    assert_eq!(x.width, y.width, "points differ in width");
    assert!(rows.len <= STRIP && rows.first.is_multiple_of(STRIP));
    assert!(columns.len <= CHUNK && columns.first.is_multiple_of(STRIP));
    simd::dispatch(Fill {
        measure,
        rows: (x, rows),
        columns: (y, columns),
        out,
    });
}

struct Fill<'a, T> {
    measure: Measure,
    rows: (&'a Panels<T>, Part),
    columns: (&'a Panels<T>, Part),
    out: &'a mut [T; STRIP * CHUNK],
}

impl<T: Real> Kernel for Fill<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.measure {
            Measure::Dot => self.with::<I, Dot>(isa),
            Measure::Squared => self.with::<I, Squared>(isa),
            Measure::SquaredDifferences => self.with::<I, Differences>(isa),
            Measure::CityBlock => self.with::<I, CityBlock>(isa),
        }
    }
}

impl<T: Real> Fill<'_, T> {
    #[inline(always)]
    fn with<I: Isa, M: Rule<T>>(self, isa: I) {
        // Two copies of one loop, each with the tile that suits its type.
        match group::<T>() {
            6 => self.tiles::<I, M, 6>(isa),
            _ => self.tiles::<I, M, 3>(isa),
        }
    }

    #[inline(always)]
    fn tiles<I: Isa, M: Rule<T>, const R: usize>(self, isa: I) {
        let ((x, rows), (y, columns)) = (self.rows, self.columns);
        let d = x.width;
        let count = columns.len.div_ceil(LANES);
        let blocks = &y.blocks[columns.first * d..][..count * LANES * d];
        let norms = y.norms[columns.first..][..count * LANES]
            .as_chunks::<LANES>()
            .0;
        let groups = x.groups[rows.first * d..].chunks_exact(R * d);
        let row_norms = x.norms[rows.first..].as_chunks::<R>().0.iter();
        let outs = self.out.chunks_exact_mut(R * CHUNK);
        let whole = groups.zip(row_norms).zip(outs).take(rows.len.div_ceil(R));
        for ((group, row_norms), out) in whole {
            let group = group.as_chunks::<R>().0;
            let mut outs = out.chunks_exact_mut(CHUNK);
            let outs: [&mut [[T; LANES]]; R] = std::array::from_fn(|_| match outs.next() {
                Some(out) => out.as_chunks_mut::<LANES>().0,
                None => &mut [],
            });
            for (b, block) in blocks.chunks_exact(d * LANES).enumerate() {
                let mut sums = [[T::zero(); LANES]; R];
                for (x, y) in group.iter().zip(block.as_chunks::<LANES>().0) {
                    for r in 0..R {
                        for i in 0..LANES {
                            sums[r][i] = M::add(isa, sums[r][i], x[r], y[i]);
                        }
                    }
                }
                for r in 0..R {
                    outs[r][b] = sums[r];
                }
            }
            if !M::DONE {
                // A loop of its own: as part of the one above it is not made vector code.
                let norms = norms.as_flattened();
                for (out, x) in outs.into_iter().zip(row_norms) {
                    for (out, y) in out.as_flattened_mut().iter_mut().zip(norms) {
                        *out = M::finish(isa, *out, *x + *y);
                    }
                }
            }
        }
    }
}

/// How a measure is gathered from coordinates.
trait Rule<T: Real> {
    fn add<I: Isa>(isa: I, sum: T, x: T, y: T) -> T;
    /// Whether the sum is the measure.
    const DONE: bool = true;
    /// With the sum of both norms.
    #[inline(always)]
    fn finish<I: Isa>(_: I, sum: T, _: T) -> T {
        sum
    }
}

struct Dot;
impl<T: Real> Rule<T> for Dot {
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: T, x: T, y: T) -> T {
        isa.mul_add(x, y, sum)
    }
}

struct Squared;
impl<T: Real> Rule<T> for Squared {
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: T, x: T, y: T) -> T {
        isa.mul_add(x, y, sum)
    }
    const DONE: bool = false;
    #[inline(always)]
    fn finish<I: Isa>(isa: I, sum: T, norms: T) -> T {
        // Rounding can make the square of a small distance negative.
        let square = isa.mul_add(T::of(-2.0), sum, norms);
        if square > T::zero() {
            square
        } else {
            T::zero()
        }
    }
}

struct Differences;
impl<T: Real> Rule<T> for Differences {
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: T, x: T, y: T) -> T {
        isa.mul_add(x - y, x - y, sum)
    }
}

struct CityBlock;
impl<T: Real> Rule<T> for CityBlock {
    #[inline(always)]
    fn add<I: Isa>(_: I, sum: T, x: T, y: T) -> T {
        sum + (x - y).abs()
    }
}

/// `sum_j W[r, j] y[j]` is added to `out`, the slabs of sums over the points of `x`.
///
/// Weights of columns behind the end do not count.
///
/// # Panics
/// As [`fill`], and when `y` has no slabs or `out` is not of the size that x asks for.
pub fn add_product<T: Real>(
    weights: &[T; STRIP * CHUNK],
    (padded, rows): (usize, Part),
    (y, columns): (&Panels<T>, Part),
    out: &mut [T],
) {
    check(padded, rows, y, out);
    let side = Side {
        weights,
        out: (padded, rows, out),
        from: (y, columns),
    };
    simd::dispatch(Product(side));
}

/// `sum_r W[r, j] x[r]` is added to `out`, the slabs of sums over the points of `y`.
///
/// # Panics
/// As [`add_product`].
pub fn add_transposed<T: Real>(
    weights: &[T; STRIP * CHUNK],
    (x, rows): (&Panels<T>, Part),
    (padded, columns): (usize, Part),
    out: &mut [T],
) {
    check(padded, columns, x, out);
    let side = Side {
        weights,
        out: (padded, columns, out),
        from: (x, rows),
    };
    simd::dispatch(Transposed(side));
}

fn check<T: Real>(padded: usize, part: Part, from: &Panels<T>, out: &[T]) {
    assert_eq!(from.slabs.len(), from.slab_len(), "panels without slabs");
    assert_eq!(out.len(), padded * from.width.next_multiple_of(LANES));
    assert!(part.first + part.len <= padded && part.first.is_multiple_of(STRIP));
}

struct Side<'a, T> {
    weights: &'a [T; STRIP * CHUNK],
    out: (usize, Part, &'a mut [T]),
    from: (&'a Panels<T>, Part),
}

struct Product<'a, T>(Side<'a, T>);

impl<T: Real> Kernel for Product<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match group::<T>() {
            6 => self.0.product::<I, 6>(isa),
            _ => self.0.product::<I, 3>(isa),
        }
    }
}

struct Transposed<'a, T>(Side<'a, T>);

impl<T: Real> Kernel for Transposed<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match group::<T>() {
            6 => self.0.transposed::<I, 6>(isa),
            _ => self.0.transposed::<I, 3>(isa),
        }
    }
}

impl<T: Real> Side<'_, T> {
    #[inline(always)]
    fn product<I: Isa, const R: usize>(self, isa: I) {
        let (padded, rows, out) = self.out;
        let (y, columns) = self.from;
        let slabs = y.slabs.chunks_exact(y.padded() * LANES);
        for (slab, out) in slabs.zip(out.chunks_exact_mut(padded * LANES)) {
            let y = slab[columns.first * LANES..][..columns.len * LANES]
                .as_chunks::<LANES>()
                .0;
            let outs = out[rows.first * LANES..].as_chunks_mut::<LANES>().0;
            let groups = outs.as_chunks_mut::<R>().0.iter_mut();
            let weights = self.weights.chunks_exact(R * CHUNK);
            for (out, weights) in groups.zip(weights).take(rows.len.div_ceil(R)) {
                let mut sums = *out;
                let w = &weights.as_chunks::<CHUNK>().0[..R];
                // Up to a constant, so that no index is checked in the loop.
                for (y, j) in y.iter().zip(0..CHUNK) {
                    for r in 0..R {
                        for i in 0..LANES {
                            sums[r][i] = isa.mul_add(w[r][j], y[i], sums[r][i]);
                        }
                    }
                }
                *out = sums;
            }
        }
    }

    #[inline(always)]
    fn transposed<I: Isa, const R: usize>(self, isa: I) {
        let (padded, columns, out) = self.out;
        let (x, rows) = self.from;
        let slabs = x.slabs.chunks_exact(x.padded() * LANES);
        for (slab, out) in slabs.zip(out.chunks_exact_mut(padded * LANES)) {
            let x = slab[rows.first * LANES..][..rows.len * LANES]
                .as_chunks::<LANES>()
                .0;
            let outs = out[columns.first * LANES..].as_chunks_mut::<LANES>().0;
            let groups = outs.as_chunks_mut::<R>().0.iter_mut();
            for (g, out) in groups.take(columns.len.div_ceil(R)).enumerate() {
                let mut sums = *out;
                for (w, x) in self.weights.as_chunks::<CHUNK>().0.iter().zip(x) {
                    let w: &[T; R] = &w.as_chunks::<R>().0[g];
                    for r in 0..R {
                        for i in 0..LANES {
                            sums[r][i] = isa.mul_add(w[r], x[i], sums[r][i]);
                        }
                    }
                }
                *out = sums;
            }
        }
    }
}

/// `sum_j W[r, j] sign(x[r] - y[j])` is added to the sums of x, its negative to those of y: the slopes
/// of [`Measure::CityBlock`].
///
/// # Panics
/// As [`add_product`].
pub fn add_signs<T: Real>(
    weights: &[T; STRIP * CHUNK],
    (x, rows, out_x): (&Panels<T>, Part, Option<&mut [T]>),
    (y, columns, out_y): (&Panels<T>, Part, &mut [T]),
) {
    assert!(x.slabs.len() == x.slab_len() && y.slabs.len() == y.slab_len());
    simd::dispatch(Signs {
        weights,
        x: (x, rows),
        y: (y, columns),
        out_x,
        out_y,
    });
}

struct Signs<'a, T> {
    weights: &'a [T; STRIP * CHUNK],
    x: (&'a Panels<T>, Part),
    y: (&'a Panels<T>, Part),
    /// `None` where both are the same points.
    out_x: Option<&'a mut [T]>,
    out_y: &'a mut [T],
}

impl<T: Real> Kernel for Signs<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, _: I) {
        let ((x, rows), (y, columns)) = (self.x, self.y);
        let offsets = |slab, padded| slab * padded * LANES;
        for slab in 0..x.width.div_ceil(LANES) {
            let (at_x, at_y) = (offsets(slab, x.padded()), offsets(slab, y.padded()));
            for r in 0..rows.len {
                let place = at_x + (rows.first + r) * LANES;
                let mut sum = [T::zero(); LANES];
                let mut point = [T::zero(); LANES];
                point.copy_from_slice(&x.slabs[place..][..LANES]);
                let start = at_y + columns.first * LANES;
                let others = y.slabs[start..][..columns.len * LANES]
                    .as_chunks::<LANES>()
                    .0;
                let outs = self.out_y[start..].as_chunks_mut::<LANES>().0;
                let weights = &self.weights[r * CHUNK..][..columns.len];
                for ((w, y), out) in weights.iter().zip(others).zip(outs) {
                    for i in 0..LANES {
                        let up = if point[i] > y[i] { *w } else { T::zero() };
                        let down = if point[i] < y[i] { *w } else { T::zero() };
                        sum[i] += up - down;
                        out[i] -= up - down;
                    }
                }
                let out = match &mut self.out_x {
                    Some(out) => &mut out[place..][..LANES],
                    None => &mut self.out_y[place..][..LANES],
                };
                out.iter_mut().zip(sum).for_each(|(o, s)| *o += s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use proptest::prelude::*;

    fn points(n: usize, d: usize, number: u64) -> Vec<f64> {
        Stream::new(3, number).normal(n * d)
    }

    fn measure(measure: Measure, x: &[f64], y: &[f64]) -> f64 {
        let pairs = x.iter().zip(y);
        match measure {
            Measure::Dot => pairs.map(|(a, b)| a * b).sum(),
            Measure::CityBlock => pairs.map(|(a, b)| (a - b).abs()).sum(),
            _ => pairs.map(|(a, b)| (a - b).powi(2)).sum(),
        }
    }

    /// Every pair of both sets, by buffers.
    fn all<T: Real>(kind: Measure, (x, y): (&[f64], &[f64]), d: usize) -> Vec<f64> {
        let of = |x: &[f64]| Panels::new(&x.iter().map(|v| T::of(*v)).collect::<Vec<T>>(), d);
        let (x, y) = (of(x), of(y));
        let mut out = vec![0.0; x.len() * y.len()];
        let mut buffer = Box::new([T::zero(); STRIP * CHUNK]);
        for first in (0..x.len()).step_by(STRIP) {
            let rows = Part {
                first,
                len: STRIP.min(x.len() - first),
            };
            for first in (0..y.len()).step_by(CHUNK) {
                let columns = Part {
                    first,
                    len: CHUNK.min(y.len() - first),
                };
                fill(kind, (&x, rows), (&y, columns), &mut buffer);
                for r in 0..rows.len {
                    for j in 0..columns.len {
                        let at = (rows.first + r) * y.len() + columns.first + j;
                        out[at] = buffer[r * CHUNK + j].as_f64();
                    }
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn buffers_hold_every_pair(n in 1usize..130, m in 1usize..220, d in 1usize..40, seed in 0u64..90) {
            let (x, y) = (points(n, d, seed), points(m, d, seed + 100));
            for kind in [Measure::Dot, Measure::Squared, Measure::SquaredDifferences, Measure::CityBlock] {
                let double = all::<f64>(kind, (&x, &y), d);
                let single = all::<f32>(kind, (&x, &y), d);
                for (at, (got, single)) in double.iter().zip(&single).enumerate() {
                    let (i, j) = (at / m, at % m);
                    let want = measure(kind, &x[i * d..][..d], &y[j * d..][..d]);
                    prop_assert!((got - want).abs() < 1e-12 * (1.0 + 4.0 * d as f64), "{kind:?} {i} {j}");
                    prop_assert!((single - want).abs() < 1e-5 * (1.0 + d as f64), "{kind:?} {i} {j}");
                }
            }
        }

        #[test]
        fn sums_go_back_to_either_side(n in 1usize..=STRIP, m in 1usize..=CHUNK, d in 1usize..40, seed in 0u64..90) {
            let (x, y) = (points(n, d, seed), points(m, d, seed + 100));
            let (px, py) = (Panels::with_slabs(&x, d), Panels::with_slabs(&y, d));
            let mut weights = Box::new([0.0f64; STRIP * CHUNK]);
            let numbers = points(n, m, seed + 200);
            for (row, numbers) in weights.chunks_exact_mut(CHUNK).zip(numbers.chunks_exact(m)) {
                row[..m].copy_from_slice(numbers);
            }
            let (rows, columns) = (Part { first: 0, len: n }, Part { first: 0, len: m });
            let (mut out_x, mut out_y) = (vec![0.0; px.slab_len()], vec![0.0; py.slab_len()]);
            let (mut sign_x, mut sign_y) = (out_x.clone(), out_y.clone());
            add_product(&weights, (px.padded(), rows), (&py, columns), &mut out_x);
            add_transposed(&weights, (&px, rows), (py.padded(), columns), &mut out_y);
            add_signs(&weights, (&px, rows, Some(&mut sign_x)), (&py, columns, &mut sign_y));
            let out_x = rows_of_slabs(&out_x, px.padded(), n, d);
            let out_y = rows_of_slabs(&out_y, py.padded(), m, d);
            let sign_x = rows_of_slabs(&sign_x, px.padded(), n, d);
            let sign_y = rows_of_slabs(&sign_y, py.padded(), m, d);
            for k in 0..d {
                let sign = |i: usize, j: usize| (x[i * d + k] - y[j * d + k]).signum();
                for i in 0..n {
                    let want: f64 = (0..m).map(|j| numbers[i * m + j] * y[j * d + k]).sum();
                    prop_assert!((out_x[i * d + k] - want).abs() < 1e-11);
                    let want: f64 = (0..m).map(|j| numbers[i * m + j] * sign(i, j)).sum();
                    prop_assert!((sign_x[i * d + k] - want).abs() < 1e-11);
                }
                for j in 0..m {
                    let want: f64 = (0..n).map(|i| numbers[i * m + j] * x[i * d + k]).sum();
                    prop_assert!((out_y[j * d + k] - want).abs() < 1e-11);
                    let want: f64 = (0..n).map(|i| -numbers[i * m + j] * sign(i, j)).sum();
                    prop_assert!((sign_y[j * d + k] - want).abs() < 1e-11);
                }
            }
        }
    }

    #[test]
    fn equal_points_are_exactly_zero_apart() {
        let x = points(50, 7, 0);
        for value in all::<f32>(Measure::Squared, (&x, &x), 7).iter().step_by(51) {
            assert_eq!(*value, 0.0);
        }
    }
}
