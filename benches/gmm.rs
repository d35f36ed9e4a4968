//! Fits of mixtures: `cargo bench -p decalign-benches --bench gmm`.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use decalign::core::random::Stream;
use decalign::gmm::{Covariance, Em, Initialization, UnrolledEm};

fn normal(shape: &[usize]) -> Tensor {
    let x = Stream::new(1, 0).normal_tensor(shape).unwrap();
    x.to_dtype(DType::F32).unwrap()
}

fn em(k: usize, kind: Covariance, steps: usize) -> Em {
    let em = Em::new(k, kind).unwrap().max_iterations(steps);
    em.tolerance(0.0).unwrap()
}

fn gmm(c: &mut Criterion) {
    let mut group = c.benchmark_group("mixtures");
    group.sample_size(10);
    let x = normal(&[100_000, 30]);
    for (name, kind) in [
        ("full", Covariance::Full),
        ("tied", Covariance::Tied),
        ("diagonal", Covariance::Diagonal),
        ("spherical", Covariance::Spherical),
    ] {
        let em = em(30, kind, 5).initialization(Initialization::EvenRows);
        group.bench_function(format!("1e5 x 30, K = 30, {name}, 5 steps"), |b| {
            b.iter(|| em.fit(&x).unwrap())
        });
    }
    let x = normal(&[1000, 200, 8]);
    let many = em(4, Covariance::Full, 10);
    group.bench_function("1000 of 200 x 8, K = 4, full, 10 steps", |b| {
        b.iter(|| many.fit(&x).unwrap())
    });
    let x = Var::from_tensor(&normal(&[32, 64])).unwrap();
    let reference = UnrolledEm::new(7, 5, 1e-4).unwrap();
    group.bench_function("32 x 64, K = 7, 5 steps, forward and backward", |b| {
        b.iter(|| {
            let fit = reference.fit(&x).unwrap();
            fit.responsibilities.sum_all().unwrap().backward().unwrap()
        })
    });
    group.finish();
}

criterion_group!(benches, gmm);
criterion_main!(benches);
