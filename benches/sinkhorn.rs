//! Sweeps of entropic transport, fifty a measurement:
//! `cargo bench -p decalign-benches --bench sinkhorn`.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use decalign::core::random::Stream;
use decalign::ot::{Geometry, LinearProblem, Sinkhorn};

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

/// Never within its tolerance, so that all sweeps are made.
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

criterion_group!(benches, sinkhorn);
criterion_main!(benches);
