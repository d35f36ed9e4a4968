//! Inner products and distances of a buffer of pairs.

use super::panels::{Panels, group};
use super::{CHUNK, Part, STRIP};
use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

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
