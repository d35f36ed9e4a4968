//! Transport between several marginals, on one thread, forward and backward:
//! `cargo bench -p decalign-benches --bench multi_marginal`.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use decalign::core::random::Stream;
use decalign::ot::{KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn};

fn variable(shape: &[usize], number: u64) -> Var {
    let x = Stream::new(1, number).normal_tensor(shape).unwrap();
    let x = x.sqr().unwrap().to_dtype(DType::F32).unwrap();
    Var::from_tensor(&x).unwrap()
}

fn uniform(points: usize) -> Tensor {
    let weights = Tensor::full(1.0 / points as f32, points, &Device::Cpu).unwrap();
    Var::from_tensor(&weights).unwrap().as_tensor().clone()
}

fn tensors(costs: &[Var]) -> Vec<Tensor> {
    costs.iter().map(|v| v.as_tensor().clone()).collect()
}

/// Three marginals of seven points: the prototypes of a model.
fn prototypes(c: &mut Criterion) {
    let mut group = c.benchmark_group("3 marginals of 7, f32");
    let marginals = vec![uniform(7); 3];
    let costs: Vec<Var> = (0..3).map(|i| variable(&[7, 7], i)).collect();
    let problem = || MultiMarginalProblem::pairwise(&marginals, &tensors(&costs)).unwrap();
    let kernel = KernelSinkhorn::new(0.1, 50).unwrap();
    group.bench_function("problem", |b| b.iter(problem));
    group.bench_function("kernel, forward", |b| {
        b.iter(|| kernel.loss(&problem()).unwrap())
    });
    group.bench_function("kernel, forward and backward", |b| {
        b.iter(|| kernel.loss(&problem()).unwrap().backward().unwrap())
    });
    // A tolerance that no solve reaches, so that all sweeps run, in f64; then the model's tolerance.
    for (name, tolerance) in [("50 sweeps", 1e-30), ("to 1e-4", 1e-4)] {
        let solver = MultiMarginalSinkhorn::new(0.1)
            .unwrap()
            .tolerance(tolerance)
            .unwrap()
            .max_iterations(50)
            .unwrap();
        let value = || solver.solve(&problem()).unwrap().value;
        group.bench_function(format!("solver {name}, forward"), |b| b.iter(value));
        group.bench_function(format!("solver {name}, forward and backward"), |b| {
            b.iter(|| value().backward().unwrap())
        });
    }
    group.finish();
}

/// Costs between neighbours only.
fn structured(c: &mut Criterion) {
    let mut group = c.benchmark_group("6 marginals of 50, f32");
    group.sample_size(20);
    let marginals = vec![uniform(50); 6];
    let costs: Vec<Var> = (0..6).map(|i| variable(&[50, 50], i)).collect();
    let costs = tensors(&costs);
    let chain = MultiMarginalProblem::chain(&marginals, &costs[..5]).unwrap();
    let edges: Vec<_> = (0..6).map(|m| (m, (m + 1) % 6, costs[m].clone())).collect();
    let ring = MultiMarginalProblem::graph(&marginals, &edges).unwrap();
    for (name, problem) in [("chain", chain), ("ring", ring)] {
        let solver = MultiMarginalSinkhorn::new(0.1)
            .unwrap()
            .tolerance(1e-4)
            .unwrap()
            .max_iterations(100)
            .unwrap();
        let solution = solver.solve(&problem).unwrap();
        let name = format!("{name}, {} sweeps", solution.iterations());
        group.bench_function(name, |b| b.iter(|| solver.solve(&problem).unwrap().value));
    }
    group.finish();
}

criterion_group!(benches, prototypes, structured);
criterion_main!(benches);
