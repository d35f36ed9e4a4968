//! Speed of the machine at a matrix product and at exponentials: the bounds of numerical loops.

use std::hint::black_box;

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::random::Stream;
use decalign_core::simd;

use crate::{least, pool};

/// Seconds of one floating-point operation of a matrix product and of one exponential, f32.
#[must_use]
pub fn speed(threads: usize) -> (f64, f64) {
    let n = 2048;
    let numbers = |seed| {
        let x = Stream::new(seed, 0).uniform(n * n, 0.0, 1.0);
        x.iter().map(|v| *v as f32).collect::<Vec<_>>()
    };
    let (a, b, mut c) = (numbers(0), numbers(1), vec![0f32; n * n]);
    let pool = pool(threads);
    let mut product = || {
        let (a, b) = (Matrix::new(&a, n, n), Matrix::new(&b, n, n));
        pool.install(|| matmul(&mut c, n, a, b, Store::Write));
    };
    let flop = least(3, &mut product) / (2 * n * n * n) as f64;
    // In place in the first cache, with the faster of the two exponentials: the stricter bound. Numbers
    // grow to the largest power of two and stay there.
    let (size, turns) = (2048, 2000);
    let exponentials = || {
        let mut x = vec![-1.0f32; size];
        for _ in 0..turns {
            simd::exp2_in_place(black_box(&mut x));
        }
    };
    let run = || {
        pool.broadcast(|_| exponentials());
    };
    (flop, least(5, run) / (size * turns * threads) as f64)
}
