//! Factors of positive definite matrices.

use decalign_core::cholesky::{factor, inverse, inverse_of_product, log_determinant, solve};
use decalign_core::random::Stream;
use decalign_core::simd;

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let cell = |at: usize| (0..n).map(|k| a[at / n * n + k] * b[k * n + at % n]).sum();
    (0..n * n).map(cell).collect()
}

fn transpose(a: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|at| a[at % n * n + at / n]).collect()
}

fn close(a: &[f64], b: &[f64]) {
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn factors_rebuild_invert_and_solve() {
    for n in [1, 2, 7, 40] {
        let x = Stream::new(2, n as u64).normal(n * n);
        let mut a = product(&x, &transpose(&x, n), n);
        (0..n).for_each(|i| a[i * n + i] += 1.0);
        let mut l = a.clone();
        factor(&mut l, n, 1e-15).unwrap();
        close(&product(&l, &transpose(&l, n), n), &a);
        let inverse = inverse(&l, n);
        let identity = product(&inverse_of_product(&inverse, n), &a, n);
        for (at, v) in identity.iter().enumerate() {
            assert!((v - f64::from(u8::from(at / n == at % n))).abs() < 1e-8);
        }
        let want = Stream::new(3, 0).normal(n);
        let mut b: Vec<f64> = a.chunks_exact(n).map(|row| simd::dot(row, &want)).collect();
        solve(&l, &mut b);
        close(&b, &want);
        let squared: f64 = (0..n).map(|i| l[i * n + i] * l[i * n + i]).product();
        assert!((log_determinant(&l, n) - squared.ln()).abs() < 1e-9 * n as f64);
    }
    assert_eq!(factor(&mut [f64::NAN], 1, 0.0), Err(0));
}
