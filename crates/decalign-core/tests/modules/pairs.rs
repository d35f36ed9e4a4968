//! All pairs of two sets of points.

use decalign_core::Real;
use decalign_core::pairs::{
    CHUNK, Measure, Panels, Part, STRIP, add_product, add_signs, add_transposed, fill,
    rows_of_slabs,
};
use decalign_core::random::Stream;
use proptest::prelude::*;

fn points(n: usize, d: usize, number: u64) -> Vec<f64> {
    Stream::new(3, number).normal(n * d)
}

fn measure(measure: Measure, x: &[f64], y: &[f64]) -> f64 {
    let pairs = x.iter().zip(y);
    match measure {
        Measure::Dot => pairs.map(|(a, b)| a * b).sum(),
        Measure::CityBlock => pairs.map(|(a, b)| (a - b).abs()).sum(),
        _ => pairs.map(|(a, b)| (a - b).powi(2)).sum(),
    }
}

/// Every pair of both sets, by buffers.
fn all<T: Real>(kind: Measure, (x, y): (&[f64], &[f64]), d: usize) -> Vec<f64> {
    let of = |x: &[f64]| Panels::new(&x.iter().map(|v| T::of(*v)).collect::<Vec<T>>(), d);
    let (x, y) = (of(x), of(y));
    let mut out = vec![0.0; x.len() * y.len()];
    let mut buffer = Box::new([T::zero(); STRIP * CHUNK]);
    for first in (0..x.len()).step_by(STRIP) {
        let rows = Part {
            first,
            len: STRIP.min(x.len() - first),
        };
        for first in (0..y.len()).step_by(CHUNK) {
            let columns = Part {
                first,
                len: CHUNK.min(y.len() - first),
            };
            fill(kind, (&x, rows), (&y, columns), &mut buffer);
            for r in 0..rows.len {
                for j in 0..columns.len {
                    let at = (rows.first + r) * y.len() + columns.first + j;
                    out[at] = buffer[r * CHUNK + j].as_f64();
                }
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn buffers_hold_every_pair(n in 1usize..130, m in 1usize..220, d in 1usize..40, seed in 0u64..90) {
        let (x, y) = (points(n, d, seed), points(m, d, seed + 100));
        for kind in [Measure::Dot, Measure::Squared, Measure::SquaredDifferences, Measure::CityBlock] {
            let double = all::<f64>(kind, (&x, &y), d);
            let single = all::<f32>(kind, (&x, &y), d);
            for (at, (got, single)) in double.iter().zip(&single).enumerate() {
                let (i, j) = (at / m, at % m);
                let want = measure(kind, &x[i * d..][..d], &y[j * d..][..d]);
                prop_assert!((got - want).abs() < 1e-12 * (1.0 + 4.0 * d as f64), "{kind:?} {i} {j}");
                prop_assert!((single - want).abs() < 1e-5 * (1.0 + d as f64), "{kind:?} {i} {j}");
            }
        }
    }

    #[test]
    fn sums_go_back_to_either_side(n in 1usize..=STRIP, m in 1usize..=CHUNK, d in 1usize..40, seed in 0u64..90) {
        let (x, y) = (points(n, d, seed), points(m, d, seed + 100));
        let (px, py) = (Panels::with_slabs(&x, d), Panels::with_slabs(&y, d));
        let mut weights = Box::new([0.0f64; STRIP * CHUNK]);
        let numbers = points(n, m, seed + 200);
        for (row, numbers) in weights.chunks_exact_mut(CHUNK).zip(numbers.chunks_exact(m)) {
            row[..m].copy_from_slice(numbers);
        }
        let (rows, columns) = (Part { first: 0, len: n }, Part { first: 0, len: m });
        let (mut out_x, mut out_y) = (vec![0.0; px.slab_len()], vec![0.0; py.slab_len()]);
        let (mut sign_x, mut sign_y) = (out_x.clone(), out_y.clone());
        add_product(&weights, (px.padded(), rows), (&py, columns), &mut out_x);
        add_transposed(&weights, (&px, rows), (py.padded(), columns), &mut out_y);
        add_signs(&weights, (&px, rows, Some(&mut sign_x)), (&py, columns, &mut sign_y));
        let out_x = rows_of_slabs(&out_x, px.padded(), n, d);
        let out_y = rows_of_slabs(&out_y, py.padded(), m, d);
        let sign_x = rows_of_slabs(&sign_x, px.padded(), n, d);
        let sign_y = rows_of_slabs(&sign_y, py.padded(), m, d);
        for k in 0..d {
            let sign = |i: usize, j: usize| (x[i * d + k] - y[j * d + k]).signum();
            for i in 0..n {
                let want: f64 = (0..m).map(|j| numbers[i * m + j] * y[j * d + k]).sum();
                prop_assert!((out_x[i * d + k] - want).abs() < 1e-11);
                let want: f64 = (0..m).map(|j| numbers[i * m + j] * sign(i, j)).sum();
                prop_assert!((sign_x[i * d + k] - want).abs() < 1e-11);
            }
            for j in 0..m {
                let want: f64 = (0..n).map(|i| numbers[i * m + j] * x[i * d + k]).sum();
                prop_assert!((out_y[j * d + k] - want).abs() < 1e-11);
                let want: f64 = (0..n).map(|i| -numbers[i * m + j] * sign(i, j)).sum();
                prop_assert!((sign_y[j * d + k] - want).abs() < 1e-11);
            }
        }
    }
}

#[test]
fn equal_points_are_exactly_zero_apart() {
    let x = points(50, 7, 0);
    for value in all::<f32>(Measure::Squared, (&x, &x), 7).iter().step_by(51) {
        assert_eq!(*value, 0.0);
    }
}
