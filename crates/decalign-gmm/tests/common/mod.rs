//! What tests of the crate share.

#![allow(dead_code, unused_imports, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_gmm::{Covariance, Mixture};

pub(crate) use decalign_testkit::{normal, number, numbers, relative_difference as off, tensor};

pub(crate) const KINDS: [Covariance; 4] = [
    Covariance::Full,
    Covariance::Tied,
    Covariance::Diagonal,
    Covariance::Spherical,
];

/// The 150 x 4 irises.
pub(crate) fn iris() -> Tensor {
    let lines = include_str!("../iris.csv")
        .lines()
        .filter(|l| !l.starts_with('#'));
    let numbers: Vec<f64> = lines
        .flat_map(|l| l.split(',').map(|v| v.parse().unwrap()))
        .collect();
    tensor(&numbers, &[150, 4])
}

/// `n` samples in each of `k` groups of deviation 1 whose centres are `separation` apart, group after
/// group.
pub(crate) fn groups(n: usize, k: usize, width: usize, separation: f64, seed: u64) -> Tensor {
    let z = numbers(&normal(&[n * k, width], seed));
    let moved = z.iter().enumerate().map(|(at, v)| {
        let (group, j) = (at / width / n, at % width);
        v + if j == group % width {
            separation * (1 + group / width) as f64
        } else {
            0.0
        }
    });
    tensor(&moved.collect::<Vec<_>>(), &[n * k, width])
}

pub(crate) fn same(a: &Mixture, b: &Mixture, tolerance: f64) {
    let pairs = [
        (a.weights(), b.weights()),
        (a.means(), b.means()),
        (a.covariances(), b.covariances()),
    ];
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let error = off(a, b);
        assert!(error <= tolerance, "part {i} is off by {error:e}: {a} {b}");
    }
}

/// The adjusted Rand index of two labellings (Hubert and Arabie 1985).
pub(crate) fn rand_index(a: &[u32], b: &[u32]) -> f64 {
    let pairs = |n: f64| n * (n - 1.0) / 2.0;
    let size = |x: &[u32]| *x.iter().max().unwrap() as usize + 1;
    let (rows, columns) = (size(a), size(b));
    let mut table = vec![0.0; rows * columns];
    for (x, y) in a.iter().zip(b) {
        table[*x as usize * columns + *y as usize] += 1.0;
    }
    let cells: f64 = table.iter().map(|n| pairs(*n)).sum();
    let of_rows: f64 = table.chunks(columns).map(|r| pairs(r.iter().sum())).sum();
    let of_columns: f64 = (0..columns)
        .map(|j| pairs(table.iter().skip(j).step_by(columns).sum()))
        .sum();
    let expected = of_rows * of_columns / pairs(a.len() as f64);
    (cells - expected) / (0.5 * (of_rows + of_columns) - expected)
}
