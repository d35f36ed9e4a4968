//! Functions of one element.

use super::isa::{Isa, Kernel, dispatch};
use crate::Real;

/// Elements handled together: two of the widest vectors, so that latencies overlap.
const BLOCK: usize = 32;

/// `exp(x)` of one number, inlined into a [`Kernel`]'s loop.
///
/// Range reduction by ln 2 in two parts, then the exponential series on |r| <= ln(2)/2.
/// NaN stays NaN; overflow is infinite and underflow 0.
#[inline(always)]
pub fn exp_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    // Written so that NaN passes through both comparisons.
    let x = if x > T::EXP_MAX { T::EXP_MAX } else { x };
    let x = if x < T::EXP_MIN { T::EXP_MIN } else { x };
    let rounded = isa.mul_add(x, T::of(std::f64::consts::LOG2_E), T::ROUND);
    let n = rounded - T::ROUND;
    let r = isa.mul_add(-n, T::LN2_HI, x);
    let r = isa.mul_add(-n, T::LN2_LO, r);
    // 1 + (r + r^2 (1/2! + r/3! + ...)): the leading terms are added last, unrounded.
    let mut tail = T::of(1.0 / FACTORIAL[T::EXP_TERMS - 1]);
    for k in (2..T::EXP_TERMS - 1).rev() {
        tail = isa.mul_add(tail, r, T::of(1.0 / FACTORIAL[k]));
    }
    let y = T::of(1.0) + isa.mul_add(tail * r, r, r);
    T::scale_by_power(y, rounded)
}

/// [`exp_value`], with 0 for every result below the smallest normal number: processors take a
/// hundred times longer for those.
#[inline(always)]
pub fn exp_normal_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    let low = x < T::EXP_NORMAL;
    let y = exp_value(isa, if low { T::zero() } else { x });
    if low { T::zero() } else { y }
}

const FACTORIAL: [f64; 14] = [
    1.0,
    1.0,
    2.0,
    6.0,
    24.0,
    120.0,
    720.0,
    5040.0,
    40320.0,
    362_880.0,
    3_628_800.0,
    39_916_800.0,
    479_001_600.0,
    6_227_020_800.0,
];

/// `ln(x)` of one number, inlined into a [`Kernel`]'s loop.
///
/// `x = 2^e m` with m in [1/sqrt 2, sqrt 2), then `ln m = 2 atanh((m - 1) / (m + 1))` by its
/// series. `ln 0` is -inf, of a negative number NaN.
#[inline(always)]
pub fn ln_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    let (lift, lift_exponent) = T::LIFT;
    let tiny = x < T::min_positive_value();
    let (mantissa, exponent) = T::split(if tiny { x * lift } else { x });
    let exponent = if tiny {
        exponent - lift_exponent
    } else {
        exponent
    };
    let f = mantissa - T::one();
    let s = f / (T::of(2.0) + f);
    let z = s * s;
    let mut tail = T::of(2.0 / (2.0 * T::LOG_TERMS as f64 + 1.0));
    for k in (1..T::LOG_TERMS).rev() {
        tail = isa.mul_add(tail, z, T::of(2.0 / (2.0 * k as f64 + 1.0)));
    }
    // ln m = f - s (f - z tail): exact to first order in f, so nothing is lost near 1.
    let low = isa.mul_add(exponent, T::LN2_LO, -(s * (f - z * tail)));
    let y = isa.mul_add(exponent, T::LN2_HI, f + low);
    let y = if x == T::infinity() { x } else { y };
    let y = if x == T::zero() { T::neg_infinity() } else { y };
    // Also true of NaN.
    if x >= T::zero() { y } else { T::nan() }
}

pub(crate) struct ExpInPlace<'a, T>(pub(crate) &'a mut [T]);

impl<T: Real> Kernel for ExpInPlace<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut blocks = self.0.chunks_exact_mut(BLOCK);
        for block in &mut blocks {
            for x in block {
                *x = exp_value(isa, *x);
            }
        }
        for x in blocks.into_remainder() {
            *x = exp_value(isa, *x);
        }
    }
}

pub(crate) struct LnInto<'a, T>(pub(crate) &'a [T], pub(crate) &'a mut [T]);

impl<T: Real> Kernel for LnInto<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (x, y) in self.0.iter().zip(self.1) {
            *y = ln_value(isa, *x);
        }
    }
}

/// Replaces every element by its exponential.
///
/// ```
/// let mut x = [0.0f32, 1.0, f32::NEG_INFINITY];
/// decalign_core::simd::exp_in_place(&mut x);
/// assert!((x[1] - 1f32.exp()).abs() < 1e-6 && x[2] == 0.0);
/// ```
pub fn exp_in_place<T: Real>(x: &mut [T]) {
    dispatch(ExpInPlace(x));
}

/// Writes the exponentials of `x` to `y`; the shorter of the two decides how many.
pub fn exp<T: Real>(x: &[T], y: &mut [T]) {
    let n = x.len().min(y.len());
    y[..n].copy_from_slice(&x[..n]);
    exp_in_place(&mut y[..n]);
}

/// Writes the natural logarithms of `x` to `y`; the shorter of the two decides how many.
pub fn ln<T: Real>(x: &[T], y: &mut [T]) {
    dispatch(LnInto(x, y));
}
