//! wass 0.2.5 on the problems of `cargo xtask peers ot`, one thread.

use std::time::Instant;

use ndarray::{Array1, Array2};

/// Number `i` of sequence `seed`, in [0, 1): the numbers of benches/peers/ot.rs and peers/pot.py.
fn uniform(seed: u64, i: u64) -> f64 {
    let z = ((seed << 32) + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Squared distances of points in a cube of 8 dimensions, at most 1.
fn cost(n: usize) -> Array2<f32> {
    let x = |seed: u64, i: usize, k: usize| uniform(seed, (i * 8 + k) as u64);
    Array2::from_shape_fn((n, n), |(i, j)| {
        let square = |k: usize| (x(0, i, k) - x(1, j, k)).powi(2);
        ((0..8).map(square).sum::<f64>() / 8.0) as f32
    })
}

fn main() {
    let n = 1000;
    let (cost, weights) = (cost(n), Array1::from_elem(n, 1.0 / n as f32));
    let least = |iterations: usize| {
        let run = |_| {
            let start = Instant::now();
            let (_, distance) = wass::sinkhorn_log(&weights, &weights, &cost, 0.05, iterations);
            assert!(distance > 0.0);
            start.elapsed().as_secs_f64()
        };
        (0..3).map(run).fold(f64::INFINITY, f64::min)
    };
    let (less, value) = (least(5), least(25));
    println!(r#"{{"name": "sinkhorn_log 1000", "value": {value}, "less": {less}, "per": 20}}"#);
}
