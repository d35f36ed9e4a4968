//! Transport between two measures: fifty sweeps, a batch, gradients, exact solves:
//! `cargo bench -p decalign-benches --bench sinkhorn`.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use decalign::core::random::Stream;
use decalign::ot::{Geometry, Gradient, LinearProblem, NetworkSimplex, Sinkhorn};

const SWEEPS: usize = 50;

fn points(n: usize, d: usize, number: u64) -> Tensor {
    let x = Stream::new(1, number).normal_tensor((n, d)).unwrap();
    (x / (d as f64).sqrt())
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

fn dense(n: usize) -> LinearProblem {
    let (x, y) = (points(n, 8, 0), points(n, 8, 1));
    let difference = x
        .unsqueeze(1)
        .unwrap()
        .broadcast_sub(&y.unsqueeze(0).unwrap())
        .unwrap();
    let cost = difference.sqr().unwrap().sum(2).unwrap();
    LinearProblem::uniform(Geometry::dense(&cost).unwrap()).unwrap()
}

/// No solve reaches the tolerance, so that all sweeps run.
fn sweeps(problem: &LinearProblem) -> usize {
    let solver = Sinkhorn::new(0.1).unwrap().epsilon_scaling(1.0).unwrap();
    let solver = solver
        .tolerance(1e-30)
        .unwrap()
        .max_iterations(SWEEPS)
        .unwrap();
    solver.solve(problem).unwrap().iterations()
}

fn sinkhorn(c: &mut Criterion) {
    let mut group = c.benchmark_group("sinkhorn, 50 sweeps");
    group.sample_size(10);
    for n in [1000, 4096] {
        let problem = dense(n);
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            group.bench_function(format!("dense {n}, {threads} threads"), |b| {
                pool.install(|| b.iter(|| sweeps(&problem)))
            });
        }
    }
    for d in [16, 64] {
        let (x, y) = (points(4000, d, 0), points(4000, d, 1));
        let geometry = Geometry::squared_euclidean(&x, &y).unwrap();
        let problem = LinearProblem::uniform(geometry).unwrap();
        group.bench_function(format!("points 4000, width {d}"), |b| {
            b.iter(|| sweeps(&problem))
        });
    }
    group.finish();
}

/// 1024 problems of 16 x 16, to the default tolerance.
fn batch(c: &mut Criterion) {
    let (x, y) = (cloud(&[1024, 16, 2], 2), cloud(&[1024, 16, 2], 3));
    let geometry = Geometry::squared_euclidean(&x, &y).unwrap();
    let problem = LinearProblem::uniform(geometry).unwrap();
    c.bench_function("1024 of 16 x 16", |b| {
        b.iter(|| Sinkhorn::new(1.0).unwrap().solve(&problem).unwrap())
    });
}

fn cloud(shape: &[usize], number: u64) -> Tensor {
    let x = Stream::new(1, number).normal_tensor(shape).unwrap();
    x.to_dtype(DType::F32).unwrap()
}

/// Forward and backward of a projection's square, 256 points.
fn gradients(c: &mut Criterion) {
    let (x, y) = (cloud(&[256, 3], 4), cloud(&[256, 3], 5));
    for gradient in [Gradient::Implicit, Gradient::Unrolled] {
        c.bench_function(&format!("projection of 256, {gradient:?}"), |b| {
            b.iter(|| {
                let x = Var::from_tensor(&x).unwrap();
                let geometry = Geometry::squared_euclidean(&x, &y).unwrap();
                let problem = LinearProblem::uniform(geometry).unwrap();
                let solver = Sinkhorn::new(0.5).unwrap().gradient(gradient);
                let solution = solver.solve(&problem).unwrap();
                let moved = solution.plan.barycentric_projection(&y).unwrap();
                moved.sqr().unwrap().sum_all().unwrap().backward().unwrap()
            })
        });
    }
}

fn exact(c: &mut Criterion) {
    let geometry = Geometry::squared_euclidean(&points(1000, 3, 6), &points(1000, 3, 7)).unwrap();
    let problem = LinearProblem::uniform(geometry).unwrap();
    let mut group = c.benchmark_group("exact");
    group.sample_size(10);
    group.bench_function("1000 x 1000", |b| {
        b.iter(|| NetworkSimplex::new().solve(&problem).unwrap())
    });
    group.finish();
}

criterion_group!(benches, sinkhorn, batch, gradients, exact);
criterion_main!(benches);
