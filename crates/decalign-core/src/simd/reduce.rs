//! Sums, in an order that depends on the length alone.

use super::isa::{Isa, Kernel, dispatch};
use crate::Real;

/// Running sums kept side by side, whatever the width of the machine's vectors.
pub(crate) const LANES: usize = 32;

/// Adds the lanes pairwise.
#[inline(always)]
fn fold<T: Real>(lanes: [T; LANES], op: impl Fn(T, T) -> T) -> T {
    // Opaque, or the compiler narrows the loop that made the lanes to the pairs joined here.
    let mut lanes = std::hint::black_box(lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = op(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

pub(crate) struct Dot<'a, T>(pub(crate) &'a [T], pub(crate) &'a [T]);

impl<T: Real> Kernel for Dot<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> T {
        let mut lanes = [T::zero(); LANES];
        let (a, a_rest) = self.0.as_chunks::<LANES>();
        let (b, b_rest) = self.1.as_chunks::<LANES>();
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                lanes[i] = isa.mul_add(a[i], b[i], lanes[i]);
            }
        }
        for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
            lanes[i] = isa.mul_add(*a, *b, lanes[i]);
        }
        fold(lanes, |a, b| a + b)
    }
}

struct Sum<'a, T>(&'a [T]);

impl<T: Real> Kernel for Sum<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> T {
        let mut lanes = [T::zero(); LANES];
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += block[i];
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += *x;
        }
        fold(lanes, |a, b| a + b)
    }
}

struct Max<'a, T>(&'a [T]);

impl<T: Real> Kernel for Max<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> T {
        let larger = |a: T, b: T| if b > a { b } else { a };
        let mut lanes = [T::neg_infinity(); LANES];
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] = larger(lanes[i], block[i]);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane = larger(*lane, *x);
        }
        fold(lanes, larger)
    }
}

/// The sum of the products of `a` and `b`, which must be of one length (the shorter decides).
///
/// ```
/// assert_eq!(decalign_core::simd::dot(&[1.0, 2.0], &[3.0, 4.0]), 11.0);
/// ```
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    debug_assert_eq!(a.len(), b.len());
    let n = a.len().min(b.len());
    dispatch(Dot(&a[..n], &b[..n]))
}

/// The sum of the elements.
pub fn sum<T: Real>(x: &[T]) -> T {
    dispatch(Sum(x))
}

/// The sum of the squares.
pub fn sum_squares<T: Real>(x: &[T]) -> T {
    dot(x, x)
}

/// The largest element that is not NaN; -inf of none.
pub fn max<T: Real>(x: &[T]) -> T {
    dispatch(Max(x))
}
