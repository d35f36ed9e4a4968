//! Maximum mean discrepancy: 4096 points against 4096 on one thread, ten kernels at once, and the
//! model's case, with their bounds, a matrix product and exponentials:
//! `cargo bench -p decalign-benches --bench mmd`.
//!
//! `mmd::squared` visits `n (2 n - 1)` pairs, n = 4096: those within a sample once. With F operations a
//! second in the product and E exponentials a second the bound is `pairs (2 d / F + 1 / E)`.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use decalign::core::gemm::{Matrix, Store, matmul};
use decalign::core::random::Stream;
use decalign::core::simd;
use decalign::mmd::{Estimator, Kernel, Mmd, MmdFamily, moment_matching};
use rayon::ThreadPool;

const N: usize = 4096;

fn points(n: usize, d: usize, number: u64) -> Tensor {
    let x = Stream::new(1, number).normal_tensor((n, d)).unwrap();
    x.to_dtype(DType::F32).unwrap()
}

fn variable(n: usize, d: usize, number: u64) -> Tensor {
    Var::from_tensor(&points(n, d, number))
        .unwrap()
        .as_tensor()
        .clone()
}

/// A length of the order of distances.
fn gaussian(d: usize, factor: f64) -> Kernel {
    Kernel::gaussian_length_scale(factor * (d as f64).sqrt()).unwrap()
}

fn bounds(c: &mut Criterion, one: &ThreadPool) {
    let mut group = c.benchmark_group("mmd, bounds, one thread");
    let n = 512;
    let (a, b) = (vec![0.5f32; n * n], vec![0.25f32; n * n]);
    let mut out = vec![0f32; n * n];
    group.throughput(Throughput::Elements(2 * (n * n * n) as u64));
    group.bench_function("operations of a product", |bench| {
        let (a, b) = (Matrix::new(&a, n, n), Matrix::new(&b, n, n));
        one.install(|| bench.iter(|| matmul(&mut out, n, a, b, Store::Write)))
    });
    let mut x = vec![-0.3f32; 4096];
    group.throughput(Throughput::Elements(4096));
    group.bench_function("exponentials", |bench| {
        one.install(|| bench.iter(|| simd::exp2_in_place(&mut x)))
    });
    group.finish();
}

fn all_pairs(c: &mut Criterion, one: &ThreadPool) {
    let mut group = c.benchmark_group("mmd, 4096 and 4096, one thread");
    group.sample_size(10);
    group.throughput(Throughput::Elements((N * (2 * N - 1)) as u64));
    for d in [16, 32, 64, 128] {
        let mmd = Mmd::new(gaussian(d, 1.0), Estimator::Unbiased);
        let (x, y) = (points(N, d, 0), points(N, d, 1));
        group.bench_function(BenchmarkId::new("forward", d), |b| {
            one.install(|| b.iter(|| mmd.squared(&x, &y).unwrap()))
        });
        let (vx, vy) = (variable(N, d, 0), variable(N, d, 1));
        group.bench_function(BenchmarkId::new("forward and backward", d), |b| {
            one.install(|| b.iter(|| mmd.squared(&vx, &vy).unwrap().backward().unwrap()))
        });
        let ten = (0..10).map(|i| gaussian(d, 0.3 + 0.17 * f64::from(i)));
        let family = MmdFamily::new(ten.collect(), Estimator::Unbiased);
        group.bench_function(BenchmarkId::new("ten kernels", d), |b| {
            one.install(|| b.iter(|| family.squared(&x, &y).unwrap()))
        });
    }
    group.finish();
}

fn model(c: &mut Criterion, one: &ThreadPool) {
    let samples: Vec<Tensor> = (0..3).map(|i| variable(32, 64, i)).collect();
    let kernel = Kernel::gaussian_variance(1.0).unwrap();
    let mmd = Mmd::new(kernel, Estimator::Biased);
    let mut group = c.benchmark_group("mmd, three samples of 32 x 64, forward and backward");
    let distance = || mmd.mean_over_pairs(&samples).unwrap();
    let moments = || moment_matching(&samples).unwrap();
    group.bench_function("mmd", |b| {
        one.install(|| b.iter(|| distance().backward().unwrap()))
    });
    group.bench_function("moments", |b| {
        one.install(|| b.iter(|| moments().backward().unwrap()))
    });
    group.bench_function("both", |b| {
        one.install(|| b.iter(|| (distance() + moments()).unwrap().backward().unwrap()))
    });
    group.finish();
}

fn mmd(c: &mut Criterion) {
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    bounds(c, &one);
    all_pairs(c, &one);
    model(c, &one);
}

criterion_group!(benches, mmd);
criterion_main!(benches);
