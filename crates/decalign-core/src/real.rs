//! The two floating-point types that loops are written for.

use candle_core::WithDType;
use num_traits::Float;

use crate::simd::wide::Wide;

/// `f32` or `f64`: what every loop of the workspace is generic over.
///
/// It joins Candle's element type with the usual floating-point functions and the bit patterns
/// that the vectorised `exp` and `log` need. It is sealed: there are exactly two.
pub trait Real: WithDType + Float + std::iter::Sum + Default + sealed::Bits + Wide {
    /// The nearest value of this type.
    fn of(value: f64) -> Self;
    /// The same value as `f64`.
    fn as_f64(self) -> f64;
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn as_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn as_f64(self) -> f64 {
        self
    }
}

pub(crate) mod sealed {
    /// Bit-level access for vectorised `exp` and `log`.
    pub trait Bits: Copy + 'static {
        /// Terms of the exponential series that reach the type's precision on |x| <= ln(2)/2.
        const EXP_TERMS: usize;
        /// Terms of the atanh series that reach the type's precision on |s| <= 3 - 2 sqrt(2).
        const LOG_TERMS: usize;
        /// 1.5 * 2^(mantissa bits): adding it rounds to an integer held in the low bits.
        const ROUND: Self;
        /// High part of ln 2, exact when multiplied by any exponent.
        const LN2_HI: Self;
        /// ln 2 minus the high part.
        const LN2_LO: Self;
        /// exp is 0 below.
        const EXP_MIN: Self;
        /// The least argument whose exponential is a normal number.
        const EXP_NORMAL: Self;
        /// exp is infinite above.
        const EXP_MAX: Self;
        /// The polynomial of `2^r` on |r| <= 1/2, constant term first and exactly 1.
        const EXP2_TERMS: &'static [Self];
        /// `2^x` is 0 from here down.
        const EXP2_MIN: Self;
        /// `2^x` grows no more above.
        const EXP2_MAX: Self;
        /// `y * 2^n`, where `rounded = n + ROUND`, for normal results; 0 for y = 1 and the n of
        /// [`Bits::EXP2_MIN`].
        fn add_to_exponent(y: Self, rounded: Self) -> Self;
        /// The larger of a number and [`Bits::EXP2_MIN`]: of negative numbers, the smaller as bits.
        fn at_least_exp2_min(x: Self) -> Self;
        /// `y * 2^n`, where `rounded = n + ROUND`, in two steps so that subnormal results are right.
        fn scale_by_power(y: Self, rounded: Self) -> Self;
        /// The number where `keep`, else 0, without a branch.
        fn kept(x: Self, keep: bool) -> Self;
        /// Splits a positive normal number into mantissa in [1/sqrt 2, sqrt 2) and exponent.
        fn split(x: Self) -> (Self, Self);
        /// A power of two that makes subnormal numbers normal, and its exponent.
        const LIFT: (Self, Self);
    }

    impl Bits for f32 {
        const EXP_TERMS: usize = 8;
        const LOG_TERMS: usize = 6;
        const ROUND: f32 = 12_582_912.0;
        const LN2_HI: f32 = f32::from_bits(0x3f31_7200);
        const LN2_LO: f32 = 1.428_606_8e-6;
        const EXP_MIN: f32 = -104.0;
        const EXP_NORMAL: f32 = -87.336_54;
        const EXP_MAX: f32 = 89.0;
        const LIFT: (f32, f32) = (16_777_216.0, 24.0);
        // Minimax in the relative error (4.3e-7) with the constant term given.
        const EXP2_TERMS: &'static [f32] = &[
            1.0,
            0.693_142_83,
            0.240_223_5,
            0.055_574_004,
            0.009_666_283,
            0.001_112_551,
        ];
        const EXP2_MIN: f32 = -127.0;
        const EXP2_MAX: f32 = 127.499_99;

        #[inline(always)]
        fn at_least_exp2_min(x: f32) -> f32 {
            f32::from_bits(x.to_bits().min(Self::EXP2_MIN.to_bits()))
        }

        #[inline(always)]
        fn kept(x: f32, keep: bool) -> f32 {
            f32::from_bits(x.to_bits() & u32::from(keep).wrapping_neg())
        }

        #[inline(always)]
        fn add_to_exponent(y: f32, rounded: f32) -> f32 {
            f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
        }

        #[inline(always)]
        fn scale_by_power(y: f32, rounded: f32) -> f32 {
            let n = (rounded.to_bits() as i32).wrapping_sub(Self::ROUND.to_bits() as i32);
            let half = n >> 1;
            let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
            y * power(half) * power(n.wrapping_sub(half))
        }

        #[inline(always)]
        fn split(x: f32) -> (f32, f32) {
            // Offset so that the mantissa's interval starts at 1/sqrt 2.
            let bits = (x.to_bits() as i32).wrapping_sub(0x3f35_04f3);
            let exponent = bits >> 23;
            let mantissa = (bits & 0x007f_ffff).wrapping_add(0x3f35_04f3);
            (f32::from_bits(mantissa as u32), exponent as f32)
        }
    }

    impl Bits for f64 {
        const EXP_TERMS: usize = 14;
        const LOG_TERMS: usize = 12;
        const ROUND: f64 = 6_755_399_441_055_744.0;
        const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
        const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
        const EXP_MIN: f64 = -746.0;
        const EXP_NORMAL: f64 = -708.396_418_532_264;
        const EXP_MAX: f64 = 710.0;
        const LIFT: (f64, f64) = (18_014_398_509_481_984.0, 54.0);
        // Minimax in the relative error (1.8e-17) with the constant term given.
        const EXP2_TERMS: &'static [f64] = &[
            1.0,
            0.693_147_180_559_945_7,
            0.240_226_506_959_100_98,
            0.055_504_108_664_790_39,
            0.009_618_129_107_607_002,
            0.001_333_355_815_343_996_5,
            0.000_154_035_304_415_721_3,
            0.000_015_252_727_385_193_868,
            1.321_544_267_532_982_2e-6,
            1.018_064_765_923_413_9e-7,
            7.072_570_412_814_424e-9,
            4.078_071_929_588_337e-10,
        ];
        const EXP2_MIN: f64 = -1023.0;
        const EXP2_MAX: f64 = 1_023.499_99;

        #[inline(always)]
        fn at_least_exp2_min(x: f64) -> f64 {
            f64::from_bits(x.to_bits().min(Self::EXP2_MIN.to_bits()))
        }

        #[inline(always)]
        fn kept(x: f64, keep: bool) -> f64 {
            f64::from_bits(x.to_bits() & u64::from(keep).wrapping_neg())
        }

        #[inline(always)]
        fn add_to_exponent(y: f64, rounded: f64) -> f64 {
            f64::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 52))
        }

        #[inline(always)]
        fn scale_by_power(y: f64, rounded: f64) -> f64 {
            let n = (rounded.to_bits() as i64).wrapping_sub(Self::ROUND.to_bits() as i64);
            // n fits 32 bits; halving in 32 bits avoids a 64-bit arithmetic shift, which AVX2 lacks.
            let half = i64::from((n as i32) >> 1);
            let power = |k: i64| f64::from_bits((k.wrapping_add(1023) << 52) as u64);
            y * power(half) * power(n.wrapping_sub(half))
        }

        #[inline(always)]
        fn split(x: f64) -> (f64, f64) {
            let bits = x.to_bits().wrapping_sub(0x3fe6_a09e_667f_3bcd);
            // Bias so that the exponent is positive, then turn it into a float through the mantissa.
            let biased = bits.wrapping_add(2048 << 52) >> 52;
            let exponent =
                f64::from_bits(0x4330_0000_0000_0000 | biased) - (4_503_599_627_370_496.0 + 2048.0);
            let mantissa = (bits & 0x000f_ffff_ffff_ffff).wrapping_add(0x3fe6_a09e_667f_3bcd);
            (f64::from_bits(mantissa), exponent)
        }
    }
}
