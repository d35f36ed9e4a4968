//! Matrix products.

use decalign_core::gemm::{Matrix, Store, matmul};
use proptest::prelude::*;

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    (0..n as u64)
        .map(|i| ((i * 2_654_435_761 + seed * 97) % 1000) as f64 / 500.0 - 1.0)
        .collect()
}

proptest! {
    #[test]
    fn agrees_with_the_definition(m in 1usize..150, n in 1usize..20, k in 0usize..20, ta: bool, tb: bool, add: bool) {
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let view_a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let view_b = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let stride = n + 3;
        let start = numbers(m * stride, 3);
        let mut c = start.clone();
        matmul(&mut c, stride, view_a, view_b, if add { Store::Add } else { Store::Write });
        for i in 0..m {
            for j in 0..stride {
                let mut want = if add || j >= n { start[i * stride + j] } else { 0.0 };
                if j < n {
                    for l in 0..k {
                        let x = if ta { a[l * m + i] } else { a[i * k + l] };
                        let y = if tb { b[j * k + l] } else { b[l * n + j] };
                        want += x * y;
                    }
                }
                prop_assert!((c[i * stride + j] - want).abs() < 1e-12, "({i}, {j})");
            }
        }
    }
}

#[test]
fn overlapping_rows_are_windows() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0f64];
    let mut c = [0.0; 3];
    let weights = [1.0, 10.0, 100.0];
    matmul(
        &mut c,
        1,
        Matrix::strided(&x, 3, 3, 1),
        Matrix::new(&weights, 3, 1),
        Store::Write,
    );
    assert_eq!(c, [321.0, 432.0, 543.0]);
}
