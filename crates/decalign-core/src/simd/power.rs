//! Powers of two: the exponential of loops that count in base 2.

use super::isa::{Isa, Kernel, dispatch};
use crate::Real;

/// `2^x` of one number, inlined into a [`Kernel`]'s loop: half the instructions of
/// [`exp_value`](super::exp_value), as no argument needs reducing by an irrational number.
///
/// `2^x = 2^n 2^r` with n the nearest integer; `2^r` is a polynomial that is exactly 1 at 0, and n is
/// added to its exponent. In f32 the polynomial is as short as its use allows: its relative error is
/// 4.5 eps, that of an argument of 10 after rounding 7 eps. Below the smallest normal number the result falls to 0 within one power
/// of two and is not accurate there; from the largest power of two on it is that power (times less
/// than 2), not infinity. NaN stays NaN.
#[inline(always)]
pub fn exp2_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    // Written so that NaN passes through the comparison.
    let x = if x > T::EXP2_MAX { T::EXP2_MAX } else { x };
    exp2_below_value(isa, x)
}

/// [`exp2_value`] of a number that is known to be below the largest power of two, such as a negative
/// one.
#[inline(always)]
pub fn exp2_below_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    exp2_normal_value(isa, if x < T::EXP2_MIN { T::EXP2_MIN } else { x })
}

/// [`exp2_below_value`] of what is known not to be NaN either: the lower end is a comparison of bits, which
/// leaves the floating-point adders to the rest (NaN gives 0 or NaN).
#[inline(always)]
pub fn exp2_number_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    exp2_normal_value(isa, T::at_least_exp2_min(x))
}

/// `2^x` of a number between the least and the largest exponent of normal numbers: nothing is checked, and
/// outside of them it is any number.
#[inline(always)]
pub fn exp2_normal_value<T: Real, I: Isa>(isa: I, x: T) -> T {
    let rounded = x + T::ROUND;
    let r = x - (rounded - T::ROUND);
    let terms = T::EXP2_TERMS;
    let mut y = terms[terms.len() - 1];
    for k in (0..terms.len() - 1).rev() {
        y = isa.mul_add(y, r, terms[k]);
    }
    T::add_to_exponent(y, rounded)
}

struct Exp2InPlace<'a, T>(&'a mut [T]);

impl<T: Real> Kernel for Exp2InPlace<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for x in self.0 {
            *x = exp2_value(isa, *x);
        }
    }
}

/// Replaces every element by two to its power, as [`exp2_value`] does.
///
/// ```
/// let mut x = [0.5f32, 3.0, f32::NEG_INFINITY];
/// decalign_core::simd::exp2_in_place(&mut x);
/// assert!((x[0] - 0.5f32.exp2()).abs() < 1e-6 && x[1..] == [8.0, 0.0]);
/// ```
pub fn exp2_in_place<T: Real>(x: &mut [T]) {
    dispatch(Exp2InPlace(x));
}
