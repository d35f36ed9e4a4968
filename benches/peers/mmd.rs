//! Measurements of this workspace for `cargo xtask peers mmd`, one JSON object a line.
//!
//! `MMD^2` of n against n points visits `n (2 n - 1)` pairs: those within a sample once. With F operations a
//! second in a matrix product and E exponentials a second its bound is `pairs (2 d / F + 1 / E)`.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use candle_core::{DType, Tensor, Var};
use decalign_benches::{Memory, least, machine, pool, print, thread_count};
use decalign_core::Result;
use decalign_core::random::Stream;
use decalign_mmd::{
    Estimator, Kernel, Mmd, MmdFamily, PermutationTest, Resampling, moment_matching,
};

const POINTS: usize = 4096;
const LARGE: usize = 100_000;

/// Standard normal numbers, f32.
fn normal(n: usize, d: usize, number: u64) -> Result<Tensor> {
    let x = Stream::new(1, number).normal_tensor((n, d))?;
    Ok(x.to_dtype(DType::F32)?)
}

fn variable(n: usize, d: usize, number: u64) -> Result<Tensor> {
    Ok(Var::from_tensor(&normal(n, d, number)?)?
        .as_tensor()
        .clone())
}

/// A length of the order of distances, times a factor.
fn gaussian(d: usize, factor: f64) -> Result<Kernel> {
    Kernel::gaussian_length_scale(factor * (d as f64).sqrt())
}

/// Memory that a forward and backward pass of many points adds at its peak; call it
/// before anything that needs as much.
fn memory() -> Result<()> {
    let d = 16;
    let (x, y) = (variable(LARGE, d, 0)?, variable(LARGE, d, 1)?);
    let mmd = Mmd::new(gaussian(d, 1.0)?, Estimator::Unbiased);
    let memory = Memory::now();
    let time = least(1, || {
        let squared = pool(2).install(|| mmd.squared(&x, &y)).unwrap();
        black_box(squared.backward().unwrap());
    });
    if let Some(added) = memory.added_at_peak() {
        print("large: memory", added);
        print("large: data", (2 * LARGE * d * 4) as f64);
    }
    print("large", time);
    Ok(())
}

fn all_pairs(d: usize, flop: f64, exponential: f64) -> Result<()> {
    let pairs = (POINTS * (2 * POINTS - 1)) as f64;
    print(
        &format!("bound {d}"),
        pairs * (2.0 * d as f64 * flop + exponential),
    );
    let (x, y) = (normal(POINTS, d, 0)?, normal(POINTS, d, 1)?);
    let mmd = Mmd::new(gaussian(d, 1.0)?, Estimator::Unbiased);
    let one = pool(1);
    let time = least(5, || {
        black_box(one.install(|| mmd.squared(&x, &y)).unwrap());
    });
    print(&format!("forward {d}"), time);
    let ten = (0..10).map(|i| gaussian(d, 0.3 + 0.17 * f64::from(i)));
    let family = MmdFamily::new(ten.collect::<Result<_>>()?, Estimator::Unbiased);
    let time = least(3, || {
        black_box(one.install(|| family.squared(&x, &y)).unwrap());
    });
    print(&format!("ten kernels {d}"), time);
    let (x, y) = (variable(POINTS, d, 0)?, variable(POINTS, d, 1)?);
    let time = least(5, || {
        let both = || mmd.squared(&x, &y).unwrap().backward().unwrap();
        black_box(one.install(both));
    });
    print(&format!("both {d}"), time);
    Ok(())
}

/// Three samples of 32 x 64: moments and MMD of all pairs, forward and backward.
fn model() -> Result<()> {
    let samples = (0..3)
        .map(|i| variable(32, 64, i))
        .collect::<Result<Vec<_>>>()?;
    let mmd = Mmd::new(Kernel::gaussian_variance(1.0)?, Estimator::Biased);
    let loss =
        || -> Result<Tensor> { Ok((mmd.mean_over_pairs(&samples)? + moment_matching(&samples)?)?) };
    let one = pool(1);
    let time = least(2000, || {
        black_box(one.install(|| loss().unwrap().backward().unwrap()));
    });
    print("model", time);
    Ok(())
}

/// 2000 permutations of 1000 against 1000 points; the peers are given the same points.
fn permutations() -> Result<()> {
    let x = normal(1000, 10, 0)?;
    let y = (normal(1000, 10, 1)? + 0.1)?;
    let resampling = Resampling::seeded(1).draws(2000);
    let test = PermutationTest::new(gaussian(10, 1.0)?, Estimator::Unbiased, resampling);
    for threads in [1, 2] {
        let time = least(5, || {
            black_box(pool(threads).install(|| test.test(&x, &y)).unwrap());
        });
        print(&format!("permutations, {}", thread_count(threads)), time);
    }
    Ok(())
}

fn main() -> Result<()> {
    memory()?;
    let (flop, exponential) = machine::speed(1);
    print("machine: flops", flop * 1e9);
    print("machine: exponentials", exponential * 1e9);
    for d in [16, 32, 64, 128] {
        all_pairs(d, flop, exponential)?;
    }
    model()?;
    permutations()
}
