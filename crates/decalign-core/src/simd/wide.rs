//! Multiply-adds in vectors chosen by hand, for loops that the compiler would rather cut up otherwise.

// Vector instructions are unsafe to name where they may be absent.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::lanes::LANES;

/// Vector forms of what an [`Isa`](super::Isa) does.
pub trait Wide: Copy {
    /// `y += a x` in 256-bit vectors.
    ///
    /// # Safety
    /// The processor has AVX2 and FMA, and N is a multiple of 8.
    #[cfg(target_arch = "x86_64")]
    unsafe fn add_scaled_avx2<const N: usize>(a: Self, x: &[Self; N], y: &mut [Self; N]);

    /// `y += a x` in 512-bit vectors.
    ///
    /// # Safety
    /// The processor has AVX-512F, AVX2 and FMA, and N is a multiple of 8.
    #[cfg(target_arch = "x86_64")]
    unsafe fn add_scaled_avx512<const N: usize>(a: Self, x: &[Self; N], y: &mut [Self; N]);

    /// `y[i] += a[i mod 4] x[i]`.
    ///
    /// # Safety
    /// The processor has AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    unsafe fn add_repeated_avx2(a: &[Self; 4], x: &[Self; LANES], y: &mut [Self; LANES]);

    /// The same.
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[cfg(target_arch = "x86_64")]
    unsafe fn add_repeated_avx512(a: &[Self; 4], x: &[Self; LANES], y: &mut [Self; LANES]);

    /// The numbers whose bits are set, zeros for the others.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn kept_avx2(x: &[Self; LANES], bits: u16) -> [Self; LANES];

    /// The same.
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[cfg(target_arch = "x86_64")]
    unsafe fn kept_avx512(x: &[Self; LANES], bits: u16) -> [Self; LANES];

    /// Rows made columns.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn transposed_avx2(x: [&[Self; 8]; 8]) -> [[Self; 8]; 8];
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Wide};
    use crate::simd::isa::columns;

    impl Wide for f32 {
        #[inline(always)]
        unsafe fn add_repeated_avx2(a: &[f32; 4], x: &[f32; LANES], y: &mut [f32; LANES]) {
            // SAFETY: the caller's instructions are there; every 8 elements lie inside x and y, and a is read whole.
            unsafe {
                let a = _mm256_broadcast_ps(&_mm_loadu_ps(a.as_ptr()));
                for i in (0..LANES).step_by(8) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm256_fmadd_ps(a, _mm256_loadu_ps(x), _mm256_loadu_ps(y));
                    _mm256_storeu_ps(y, sum);
                }
            }
        }

        #[inline(always)]
        unsafe fn add_repeated_avx512(a: &[f32; 4], x: &[f32; LANES], y: &mut [f32; LANES]) {
            // SAFETY: the caller's instructions are there; every 16 elements lie inside x and y, and a is read whole.
            unsafe {
                let a = _mm512_broadcast_f32x4(_mm_loadu_ps(a.as_ptr()));
                for i in (0..LANES).step_by(16) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm512_fmadd_ps(a, _mm512_loadu_ps(x), _mm512_loadu_ps(y));
                    _mm512_storeu_ps(y, sum);
                }
            }
        }

        #[inline(always)]
        unsafe fn kept_avx2(x: &[f32; LANES], bits: u16) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: the caller's instructions are there; every 8 elements lie inside x and out.
            unsafe {
                let places = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                for i in [0, 8] {
                    let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(bits >> i)), places);
                    let mask = _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, places));
                    let kept = _mm256_and_ps(mask, _mm256_loadu_ps(x.as_ptr().add(i)));
                    _mm256_storeu_ps(out.as_mut_ptr().add(i), kept);
                }
            }
            out
        }

        #[inline(always)]
        unsafe fn kept_avx512(x: &[f32; LANES], bits: u16) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: the caller's instructions are there; x and out are a vector each.
            unsafe {
                let kept = _mm512_maskz_mov_ps(bits, _mm512_loadu_ps(x.as_ptr()));
                _mm512_storeu_ps(out.as_mut_ptr(), kept);
            }
            out
        }

        #[inline(always)]
        unsafe fn transposed_avx2(x: [&[f32; 8]; 8]) -> [[f32; 8]; 8] {
            // SAFETY: the caller's instructions are there; a row is a vector.
            unsafe {
                // Pairs of rows, then of pairs, then of halves; no closures, which would be compiled for fewer instructions.
                let mut rows = [_mm256_setzero_ps(); 8];
                for i in 0..8 {
                    rows[i] = _mm256_loadu_ps(x[i].as_ptr());
                }
                let mut pairs = rows;
                for i in 0..4 {
                    pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                    pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
                }
                let mut fours = pairs;
                for i in [0, 4] {
                    for k in 0..2 {
                        let (a, b) = (pairs[i + k], pairs[i + k + 2]);
                        fours[i + 2 * k] = _mm256_shuffle_ps::<0x44>(a, b);
                        fours[i + 2 * k + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                    }
                }
                let mut out = [[0.0; 8]; 8];
                for i in 0..4 {
                    let first = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
                    _mm256_storeu_ps(out[i].as_mut_ptr(), first);
                    let second = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
                    _mm256_storeu_ps(out[i + 4].as_mut_ptr(), second);
                }
                out
            }
        }

        #[inline(always)]
        unsafe fn add_scaled_avx2<const N: usize>(a: f32, x: &[f32; N], y: &mut [f32; N]) {
            const { assert!(N.is_multiple_of(8)) }
            // SAFETY: the caller's instructions are there; every 8 elements lie inside x and y.
            unsafe {
                let a = _mm256_set1_ps(a);
                for i in (0..N).step_by(8) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm256_fmadd_ps(a, _mm256_loadu_ps(x), _mm256_loadu_ps(y));
                    _mm256_storeu_ps(y, sum);
                }
            }
        }

        #[inline(always)]
        unsafe fn add_scaled_avx512<const N: usize>(a: f32, x: &[f32; N], y: &mut [f32; N]) {
            const { assert!(N.is_multiple_of(8)) }
            if !N.is_multiple_of(16) {
                // SAFETY: AVX2 and FMA are there too.
                return unsafe { Self::add_scaled_avx2(a, x, y) };
            }
            // SAFETY: the caller's instructions are there; every 16 elements lie inside x and y.
            unsafe {
                let a = _mm512_set1_ps(a);
                for i in (0..N).step_by(16) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm512_fmadd_ps(a, _mm512_loadu_ps(x), _mm512_loadu_ps(y));
                    _mm512_storeu_ps(y, sum);
                }
            }
        }
    }

    impl Wide for f64 {
        #[inline(always)]
        unsafe fn add_repeated_avx2(a: &[f64; 4], x: &[f64; LANES], y: &mut [f64; LANES]) {
            // SAFETY: the caller's instructions are there; every 4 elements lie inside x and y, and a is read whole.
            unsafe {
                let a = _mm256_loadu_pd(a.as_ptr());
                for i in (0..LANES).step_by(4) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm256_fmadd_pd(a, _mm256_loadu_pd(x), _mm256_loadu_pd(y));
                    _mm256_storeu_pd(y, sum);
                }
            }
        }

        #[inline(always)]
        unsafe fn add_repeated_avx512(a: &[f64; 4], x: &[f64; LANES], y: &mut [f64; LANES]) {
            // SAFETY: the caller's instructions are there; every 8 elements lie inside x and y, and a is read whole.
            unsafe {
                let a = _mm512_broadcast_f64x4(_mm256_loadu_pd(a.as_ptr()));
                for i in (0..LANES).step_by(8) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm512_fmadd_pd(a, _mm512_loadu_pd(x), _mm512_loadu_pd(y));
                    _mm512_storeu_pd(y, sum);
                }
            }
        }

        #[inline(always)]
        unsafe fn kept_avx2(x: &[f64; LANES], bits: u16) -> [f64; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: the caller's instructions are there; every 4 elements lie inside x and out.
            unsafe {
                let places = _mm256_setr_epi64x(1, 2, 4, 8);
                for i in [0, 4, 8, 12] {
                    let set = _mm256_and_si256(_mm256_set1_epi64x(i64::from(bits >> i)), places);
                    let mask = _mm256_castsi256_pd(_mm256_cmpeq_epi64(set, places));
                    let kept = _mm256_and_pd(mask, _mm256_loadu_pd(x.as_ptr().add(i)));
                    _mm256_storeu_pd(out.as_mut_ptr().add(i), kept);
                }
            }
            out
        }

        #[inline(always)]
        unsafe fn kept_avx512(x: &[f64; LANES], bits: u16) -> [f64; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: the caller's instructions are there; every 8 elements lie inside x and out.
            unsafe {
                for i in [0, 8] {
                    let x = _mm512_loadu_pd(x.as_ptr().add(i));
                    let kept = _mm512_maskz_mov_pd((bits >> i) as u8, x);
                    _mm512_storeu_pd(out.as_mut_ptr().add(i), kept);
                }
            }
            out
        }

        #[inline(always)]
        unsafe fn transposed_avx2(x: [&[f64; 8]; 8]) -> [[f64; 8]; 8] {
            columns(x)
        }

        #[inline(always)]
        unsafe fn add_scaled_avx2<const N: usize>(a: f64, x: &[f64; N], y: &mut [f64; N]) {
            const { assert!(N.is_multiple_of(8)) }
            // SAFETY: the caller's instructions are there; every 4 elements lie inside x and y.
            unsafe {
                let a = _mm256_set1_pd(a);
                for i in (0..N).step_by(4) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm256_fmadd_pd(a, _mm256_loadu_pd(x), _mm256_loadu_pd(y));
                    _mm256_storeu_pd(y, sum);
                }
            }
        }

        #[inline(always)]
        unsafe fn add_scaled_avx512<const N: usize>(a: f64, x: &[f64; N], y: &mut [f64; N]) {
            const { assert!(N.is_multiple_of(8)) }
            // SAFETY: the caller's instructions are there; every 8 elements lie inside x and y.
            unsafe {
                let a = _mm512_set1_pd(a);
                for i in (0..N).step_by(8) {
                    let (x, y) = (x.as_ptr().add(i), y.as_mut_ptr().add(i));
                    let sum = _mm512_fmadd_pd(a, _mm512_loadu_pd(x), _mm512_loadu_pd(y));
                    _mm512_storeu_pd(y, sum);
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Wide for f32 {}
#[cfg(not(target_arch = "x86_64"))]
impl Wide for f64 {}
