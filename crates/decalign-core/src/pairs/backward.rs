//! Weighted sums over points: the backward pass of [`super::fill`].

use super::panels::{Panels, group};
use super::{CHUNK, Part, STRIP};
use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

/// `sum_j W[r, j] y[j]` is added to `out`, the slabs of sums over the points of `x`.
///
/// Weights of columns behind the end do not count.
///
/// # Panics
/// As [`super::fill`], and when `y` has no slabs or `out` is not of the size that x asks for.
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
/// of [`super::Measure::CityBlock`].
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
