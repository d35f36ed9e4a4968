//! Functions of slices: their bounds of error.

use decalign_core::Real;
use decalign_core::simd::*;
use proptest::prelude::*;

fn ulps32(got: f32, want: f64) -> f64 {
    let want32 = want as f32;
    if got == want32 || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let ulp = f64::from(f32::from_bits(want32.abs().to_bits() + 1)) - f64::from(want32.abs());
    (f64::from(got) - want).abs() / ulp
}

fn ulps64(got: f64, want: f64) -> f64 {
    if got == want || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let ulp = f64::from_bits(want.abs().to_bits() + 1) - want.abs();
    (got - want).abs() / ulp
}

/// A dense walk over a range, prime step so that no pattern repeats.
fn walk(low: f64, high: f64, n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| low + (high - low) * ((i * 7919) % n) as f64 / n as f64)
}

#[test]
fn exp_is_within_two_ulps() {
    let x: Vec<f32> = walk(-104.5, 89.5, 400_000).map(|v| v as f32).collect();
    let mut y = vec![0.0; x.len()];
    exp(&x, &mut y);
    for (x, y) in x.iter().zip(&y) {
        let error = ulps32(*y, f64::from(*x).exp());
        assert!(error <= 2.0, "exp({x}) = {y}: {error} ulp");
    }
    let x: Vec<f64> = walk(-746.5, 710.5, 400_000).collect();
    let mut y = vec![0.0; x.len()];
    exp(&x, &mut y);
    for (x, y) in x.iter().zip(&y) {
        // The reference itself is within one.
        let error = ulps64(*y, x.exp());
        assert!(error <= 2.0, "exp({x}) = {y}: {error} ulp");
    }
}

#[test]
fn ln_is_within_two_ulps() {
    let x: Vec<f32> = walk(-149.0, 127.9, 400_000)
        .map(|v| v.exp2() as f32)
        .chain(walk(0.9, 1.1, 100_000).map(|v| v as f32))
        .collect();
    let mut y = vec![0.0; x.len()];
    ln(&x, &mut y);
    for (x, y) in x.iter().zip(&y) {
        let error = ulps32(*y, f64::from(*x).ln());
        assert!(error <= 2.0, "ln({x}) = {y}: {error} ulp");
    }
    let x: Vec<f64> = walk(-1074.0, 1023.9, 400_000)
        .map(f64::exp2)
        .chain(walk(0.9, 1.1, 100_000))
        .collect();
    let mut y = vec![0.0; x.len()];
    ln(&x, &mut y);
    for (x, y) in x.iter().zip(&y) {
        let error = ulps64(*y, x.ln());
        assert!(error <= 2.0, "ln({x}) = {y}: {error} ulp");
    }
}

#[test]
fn special_values() {
    let mut x = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1e308,
        -1e308,
    ];
    exp_in_place(&mut x);
    assert!(x[0].is_nan());
    assert_eq!(&x[1..], &[f64::INFINITY, 0.0, 1.0, 1.0, f64::INFINITY, 0.0]);
    let mut y = [0.0f32; 5];
    ln(&[f32::NAN, f32::INFINITY, 0.0, -1.0, 1.0], &mut y);
    assert!(y[0].is_nan() && y[3].is_nan());
    assert_eq!((y[1], y[2], y[4]), (f32::INFINITY, f32::NEG_INFINITY, 0.0));
}

#[test]
fn normal_exponentials_are_exact_or_zero() {
    struct Run<'a, T>(&'a [T]);
    impl<T: Real> Kernel for Run<'_, T> {
        type Output = Vec<T>;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Vec<T> {
            self.0.iter().map(|x| exp_normal_value(isa, *x)).collect()
        }
    }
    let x = [
        0.0f32,
        1.0,
        -87.3,
        -87.4,
        -103.0,
        f32::NEG_INFINITY,
        f32::NAN,
        100.0,
    ];
    let y = dispatch(Run(&x));
    assert_eq!(
        (y[0], y[3], y[4], y[5], y[7]),
        (1.0, 0.0, 0.0, 0.0, f32::INFINITY)
    );
    assert!(y[2].is_normal() && y[6].is_nan());
    let y = dispatch(Run(&[-708.3f64, -708.5, -744.0]));
    assert!(y[0].is_normal() && y[1] == 0.0 && y[2] == 0.0);
}

#[test]
fn powers_are_within_their_bounds() {
    let mut x: Vec<f32> = (0..400_000)
        .map(|i| (i as f32).mul_add(2.53e2 / 4e5, -126.0))
        .collect();
    let want = x.clone();
    exp2_in_place(&mut x);
    for (x, y) in want.iter().zip(&x) {
        let exact = f64::from(*x).exp2();
        let error = (f64::from(*y) - exact).abs() / exact / f64::from(f32::EPSILON);
        assert!(error <= 4.5, "2^{x} = {y}: {error} eps");
    }
    let mut x: Vec<f64> = (0..400_000)
        .map(|i| f64::from(i).mul_add(2.045e3 / 4e5, -1022.0))
        .collect();
    let want = x.clone();
    exp2_in_place(&mut x);
    for (x, y) in want.iter().zip(&x) {
        // Compared with libm about 0, where numbers are largest beside their rounding.
        let (whole, rest) = (x.round(), x - x.round());
        let exact = rest.exp2();
        let got = y / 2f64.powi(whole as i32);
        let error = (got - exact).abs() / exact / f64::EPSILON;
        assert!(error <= 2.0, "2^{x} = {y}: {error} ulp");
    }
}

#[test]
fn numbers_are_powers_as_well() {
    struct Numbers<'a, T>(&'a mut [T]);
    impl<T: Real> Kernel for Numbers<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            for x in self.0 {
                *x = exp2_number_value(isa, *x);
            }
        }
    }
    fn check<T: Real>(highest: f64) {
        let ends = [f64::NEG_INFINITY, -1e30, -1e300, -0.0, 0.0, -1e-300];
        let mut x: Vec<T> = (0..40_000)
            .map(|i| highest * (1.0 - f64::from(i) / 19_000.0))
            .chain(ends)
            .map(T::of)
            .collect();
        let mut want = x.clone();
        exp2_in_place(&mut want);
        dispatch(Numbers(&mut x));
        assert!(x == want);
    }
    check::<f32>(127.0);
    check::<f64>(1023.0);
}

#[test]
fn ends_are_zero_and_huge() {
    let mut x = [
        f32::NEG_INFINITY,
        -1e30,
        -127.0,
        -126.0,
        127.0,
        1e30,
        f32::NAN,
    ];
    exp2_in_place(&mut x);
    assert_eq!(x[..4], [0.0, 0.0, 0.0, f32::MIN_POSITIVE]);
    assert!(x[4] == 2f32.powi(127) && x[5] >= x[4] && x[6].is_nan());
    let mut x = [f64::NEG_INFINITY, -1e30, -1023.0, -1022.0, 1023.0, f64::NAN];
    exp2_in_place(&mut x);
    assert_eq!(x[..4], [0.0, 0.0, 0.0, f64::MIN_POSITIVE]);
    assert!(x[4] == 2f64.powi(1023) && x[5].is_nan());
}

proptest! {
    #[test]
    fn sums_are_within_their_bound(x in prop::collection::vec(-1e3f32..1e3, 0..400)) {
        let n = x.len() as f64;
        let exact: f64 = x.iter().map(|v| f64::from(*v)).sum();
        let size: f64 = x.iter().map(|v| f64::from(v.abs())).sum();
        let bound = (n / 32.0 + 5.0) * f64::from(f32::EPSILON) * size;
        prop_assert!((f64::from(sum(&x)) - exact).abs() <= bound);
        let exact: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
        let bound = (n / 32.0 + 5.0) * f64::from(f32::EPSILON) * exact;
        prop_assert!((f64::from(sum_squares(&x)) - exact).abs() <= bound);
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assert_eq!(max(&x), largest);
    }
}

struct Both<'a>(&'a [f64], &'a [f64], usize);

impl Kernel for Both<'_> {
    type Output = [[f64; ROWS]; 2];
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let Self(x, y, d) = self;
        [row_sums(isa, x, d), row_dots(isa, x, y, d)]
    }
}

#[test]
fn sums_are_those_of_single_rows() {
    for (rows, d) in [(8, 32), (3, 1), (8, 11), (1, 8), (0, 5)] {
        let x: Vec<f64> = (0..rows * d).map(|i| (i as f64 * 0.7).sin()).collect();
        let y: Vec<f64> = (0..rows * d).map(|i| (i as f64 * 0.3).cos()).collect();
        let [sums, dots] = dispatch(Both(&x, &y, d));
        for r in 0..ROWS {
            let row = |x: &[f64]| x.iter().skip(r * d).take(d).copied().collect::<Vec<_>>();
            let (x, y) = (row(&x), row(&y));
            let dot: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
            assert!((sums[r] - x.iter().sum::<f64>()).abs() < 1e-13);
            assert!((dots[r] - dot).abs() < 1e-13);
        }
    }
}
