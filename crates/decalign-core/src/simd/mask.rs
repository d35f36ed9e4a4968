//! Comparing 16-bit numbers with a bound, to bits.

// Vector instructions are unsafe to name where they may be absent.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::LANES;

/// See [`Isa::below`](super::Isa::below).
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn below_avx2(numbers: &[[u8; 2]; LANES], bound: u32) -> u16 {
    let Ok(bound) = u16::try_from(bound) else {
        return u16::MAX;
    };
    // SAFETY: the caller's instructions are there; 16 numbers of 16 bits are a vector.
    unsafe {
        let x = _mm256_loadu_si256(numbers.as_ptr().cast());
        // Unsigned numbers are compared by their larger one.
        let larger = _mm256_max_epu16(x, _mm256_set1_epi16(bound as i16));
        let not_below = _mm256_cmpeq_epi16(larger, x);
        let bytes = _mm256_packs_epi16(not_below, _mm256_setzero_si256());
        let bits = _mm256_movemask_epi8(bytes) as u32;
        !((bits & 0xff) | (bits >> 8 & 0xff00)) as u16
    }
}

/// The same.
///
/// # Safety
/// The processor has AVX-512BW and VL.
#[inline(always)]
pub(super) unsafe fn below_avx512(numbers: &[[u8; 2]; LANES], bound: u32) -> u16 {
    let Ok(bound) = u16::try_from(bound) else {
        return u16::MAX;
    };
    // SAFETY: the caller's instructions are there; 16 numbers of 16 bits are a vector.
    unsafe {
        let x = _mm256_loadu_si256(numbers.as_ptr().cast());
        _mm256_cmplt_epu16_mask(x, _mm256_set1_epi16(bound as i16))
    }
}
