//! Choosing the instruction set.

// Calling a function compiled for more instructions than the baseline is the one unsafe act here.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use super::lanes::LANES;
use crate::Real;

/// What a [`Kernel`] may ask of the instruction set it was compiled for.
pub trait Isa: Copy {
    /// `a * b + c`, rounded once where the instruction set can do so.
    fn mul_add<T: Real>(self, a: T, b: T, c: T) -> T;

    /// Rows, wherever each lies, made columns.
    #[inline(always)]
    fn transposed<T: Real>(self, x: [&[T; 8]; 8]) -> [[T; 8]; 8] {
        columns(x)
    }

    /// `y += a x`, in vectors whatever the loop around it: N is 8 or [`LANES`](super::LANES).
    #[inline(always)]
    fn add_scaled<T: Real, const N: usize>(self, a: T, x: &[T; N], y: &mut [T; N]) {
        for i in 0..N {
            y[i] = self.mul_add(a, x[i], y[i]);
        }
    }

    /// `y[i] += a[i mod 4] x[i]`.
    #[inline(always)]
    fn add_repeated<T: Real>(self, a: &[T; 4], x: &[T; LANES], y: &mut [T; LANES]) {
        for i in 0..LANES {
            y[i] = self.mul_add(a[i % 4], x[i], y[i]);
        }
    }

    /// The numbers whose bits are set, zeros for the others.
    #[inline(always)]
    fn kept<T: Real>(self, x: &[T; LANES], bits: u16) -> [T; LANES] {
        let mut kept = *x;
        for (i, x) in kept.iter_mut().enumerate() {
            *x = T::kept(*x, bits >> i & 1 == 1);
        }
        kept
    }

    /// `a x`, as [`Isa::add_scaled`].
    #[inline(always)]
    fn scaled<T: Real, const N: usize>(self, a: T, x: &[T; N]) -> [T; N] {
        let mut y = [T::zero(); N];
        self.add_scaled(a, x, &mut y);
        y
    }
}

#[inline(always)]
pub(crate) fn columns<T: Copy>(x: [&[T; 8]; 8]) -> [[T; 8]; 8] {
    std::array::from_fn(|i| std::array::from_fn(|j| x[j][i]))
}

/// A loop to be compiled for every instruction set.
///
/// Implementations must mark `run` (and what it calls per element) `#[inline(always)]`: only
/// inlined code is compiled for the wider instructions.
pub trait Kernel {
    /// What the loop returns.
    type Output;
    /// The loop.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// What the compilation target guarantees.
    Baseline,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors with fused multiply-add.
    Avx512,
    /// 128-bit vectors with fused multiply-add.
    Neon,
}

/// The instruction set that [`dispatch`] uses on this processor.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
    {
        Level::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Level::Avx2
    } else {
        Level::Baseline
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    Level::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Baseline
}

#[derive(Clone, Copy)]
struct Separate;

impl Isa for Separate {
    #[inline(always)]
    fn mul_add<T: Real>(self, a: T, b: T, c: T) -> T {
        a * b + c
    }
}

#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
struct Fused;

#[cfg(target_arch = "aarch64")]
impl Isa for Fused {
    #[inline(always)]
    fn mul_add<T: Real>(self, a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }
}

/// Made only where the processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    #[inline(always)]
    fn mul_add<T: Real>(self, a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn add_scaled<T: Real, const N: usize>(self, a: T, x: &[T; N], y: &mut [T; N]) {
        // SAFETY: the processor has AVX2 and FMA, or there would be no value of this type.
        unsafe { T::add_scaled_avx2(a, x, y) }
    }

    #[inline(always)]
    fn add_repeated<T: Real>(self, a: &[T; 4], x: &[T; LANES], y: &mut [T; LANES]) {
        // SAFETY: as above.
        unsafe { T::add_repeated_avx2(a, x, y) }
    }

    #[inline(always)]
    fn kept<T: Real>(self, x: &[T; LANES], bits: u16) -> [T; LANES] {
        // SAFETY: as above.
        unsafe { T::kept_avx2(x, bits) }
    }

    #[inline(always)]
    fn transposed<T: Real>(self, x: [&[T; 8]; 8]) -> [[T; 8]; 8] {
        // SAFETY: as above.
        unsafe { T::transposed_avx2(x) }
    }
}

/// Made only where the processor has AVX-512 (F and VL), AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Isa for Avx512 {
    #[inline(always)]
    fn mul_add<T: Real>(self, a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn add_scaled<T: Real, const N: usize>(self, a: T, x: &[T; N], y: &mut [T; N]) {
        // SAFETY: the processor has AVX-512, or there would be no value of this type.
        unsafe { T::add_scaled_avx512(a, x, y) }
    }

    #[inline(always)]
    fn add_repeated<T: Real>(self, a: &[T; 4], x: &[T; LANES], y: &mut [T; LANES]) {
        // SAFETY: as above.
        unsafe { T::add_repeated_avx512(a, x, y) }
    }

    #[inline(always)]
    fn kept<T: Real>(self, x: &[T; LANES], bits: u16) -> [T; LANES] {
        // SAFETY: as above.
        unsafe { T::kept_avx512(x, bits) }
    }

    #[inline(always)]
    fn transposed<T: Real>(self, x: [&[T; 8]; 8]) -> [[T; 8]; 8] {
        // SAFETY: as above.
        unsafe { T::transposed_avx2(x) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Runs a loop compiled for the widest instruction set of this processor.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_at(level(), kernel)
}

/// Runs a loop at a given level, which must not exceed [`level`] (tests compare the levels).
#[inline]
pub(crate) fn dispatch_at<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `detect` reports this level only when the processor has all features enabled here.
        Level::Avx512 => unsafe { run_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; a processor at level Avx512 has AVX2 and FMA too.
        Level::Avx2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => kernel.run(Fused),
        _ => kernel.run(Separate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::map::{ExpInPlace, LnInto};
    use crate::simd::reduce::Dot;

    /// Every level that this processor can run.
    fn levels() -> Vec<Level> {
        match level() {
            Level::Avx512 => vec![Level::Baseline, Level::Avx2, Level::Avx512],
            Level::Avx2 => vec![Level::Baseline, Level::Avx2],
            other => vec![Level::Baseline, other],
        }
    }

    struct Scaled<'a>(
        &'a mut [f64; LANES],
        &'a mut [f32; 8],
        &'a mut [f64; LANES],
        &'a mut [f32; LANES],
    );

    impl Kernel for Scaled<'_> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            isa.add_scaled(0.5, &std::array::from_fn(|i| i as f64), self.0);
            isa.add_scaled(0.5, &std::array::from_fn(|i| i as f32), self.1);
            isa.add_repeated(&[0.0, 1.0, 2.0, 3.0], &[2.0; LANES], self.2);
            isa.add_repeated(&[0.0, 1.0, 2.0, 3.0], &[2.0; LANES], self.3);
        }
    }

    struct Transposed<'a>(&'a [[f32; 8]; 8]);

    impl Kernel for Transposed<'_> {
        type Output = [[f32; 8]; 8];
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> [[f32; 8]; 8] {
            isa.transposed(self.0.each_ref())
        }
    }

    struct Masked(u16);

    impl Kernel for Masked {
        type Output = ([f32; LANES], [f64; LANES]);
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Self::Output {
            (
                isa.kept(&[1.5; LANES], self.0),
                isa.kept(&[2.5; LANES], self.0),
            )
        }
    }

    #[test]
    fn levels_agree_on_masks() {
        for bits in [0, 1, 0x8000, 0xffff, 0xb2e1] {
            for level in levels() {
                let (single, double) = dispatch_at(level, Masked(bits));
                for i in 0..LANES {
                    let set = bits >> i & 1 == 1;
                    let name = format!("{level:?}, {bits:x}, number {i}");
                    assert_eq!(single[i], if set { 1.5 } else { 0.0 }, "{name}");
                    assert_eq!(double[i], if set { 2.5 } else { 0.0 }, "{name}");
                }
            }
        }
    }

    #[test]
    fn levels_agree() {
        let x: Vec<f64> = (0..1003).map(|i| f64::from(i) * 0.01 - 5.0).collect();
        let mut want = x.clone();
        dispatch_at(Level::Baseline, ExpInPlace(&mut want));
        for level in levels() {
            let mut got = x.clone();
            dispatch_at(level, ExpInPlace(&mut got));
            for (g, w) in got.iter().zip(&want) {
                assert!(
                    (g - w).abs() <= 4.0 * f64::EPSILON * w,
                    "{level:?}: {g} {w}"
                );
            }
            let mut log = vec![0.0; x.len()];
            dispatch_at(level, LnInto(&want, &mut log));
            for (g, w) in log.iter().zip(&x) {
                assert!((g - w).abs() <= 1e-14, "{level:?}: {g} {w}");
            }
            let (mut wide, mut narrow) = ([1.0; LANES], [1.0f32; 8]);
            let (mut double, mut single) = ([1.0; LANES], [1.0f32; LANES]);
            let of_all = Scaled(&mut wide, &mut narrow, &mut double, &mut single);
            dispatch_at(level, of_all);
            for i in 0..LANES {
                let want = 1.0 + 2.0 * (i % 4) as f64;
                assert_eq!((double[i], f64::from(single[i])), (want, want), "{level:?}");
            }
            assert!(
                wide.iter()
                    .enumerate()
                    .all(|(i, v)| *v == 1.0 + 0.5 * i as f64)
            );
            assert!(
                narrow
                    .iter()
                    .enumerate()
                    .all(|(i, v)| *v == 1.0 + 0.5 * i as f32)
            );
            let square = |i: usize, j: usize| (8 * i + j) as f32;
            let rows = std::array::from_fn(|i| std::array::from_fn(|j| square(i, j)));
            let turned = dispatch_at(level, Transposed(&rows));
            assert_eq!(turned, columns(rows.each_ref()), "{level:?}");
            let dot = dispatch_at(level, Dot(&x, &x));
            let exact: f64 = x.iter().map(|v| v * v).sum();
            assert!(
                (dot - exact).abs() < 1e-10 * exact,
                "{LANES} lanes, {level:?}"
            );
        }
    }
}
