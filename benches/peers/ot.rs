//! Measurements of this workspace for `cargo xtask peers ot`, one JSON object a line.
//!
//! `(value - less) / per`, where given, is the time of one of `per` further sweeps: a long solve less a
//! short one, so that reading the problem and checking the final plan do not count.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use candle_core::{DType, Device, Tensor, Var};
use decalign_benches::{Memory, least, machine, pool, print, print_step, thread_count};
use decalign_core::Result;
use decalign_ot::{
    Geometry, KernelSinkhorn, LinearProblem, LowRankSinkhorn, MultiMarginalProblem, NetworkSimplex,
    Sinkhorn,
};

/// Numbers in [0, 1) of sequence `seed`: those of xtask/peers/pot.py and xtask/peers/wass/main.rs.
fn uniform(seed: u64, n: usize) -> Vec<f64> {
    let number = |i: u64| {
        let z = ((seed << 32) + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n as u64).map(number).collect()
}

fn tensor(numbers: Vec<f64>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(DType::F32)?)
}

/// Points whose squared distances are at most 1.
fn points(seed: u64, n: usize, d: usize) -> Result<Tensor> {
    let scale = (d as f64).sqrt();
    tensor(
        uniform(seed, n * d).iter().map(|v| v / scale).collect(),
        &[n, d],
    )
}

/// Exactly `count` sweeps at one epsilon.
fn sweeps(problem: &LinearProblem, epsilon: f64, count: usize) {
    let solver = Sinkhorn::new(epsilon).and_then(|s| s.epsilon_scaling(1.0));
    // No solve reaches this tolerance.
    let solver = solver.and_then(|s| s.tolerance(1e-30)).unwrap();
    let solution = solver
        .max_iterations(count)
        .unwrap()
        .solve(problem)
        .unwrap();
    assert_eq!(solution.iterations(), count);
}

/// The time of a further sweep.
fn further(name: &str, problem: &LinearProblem, (few, many): (usize, usize), threads: usize) {
    let pool = pool(threads);
    let time = |count| least(3, || pool.install(|| sweeps(problem, 0.05, count)));
    let (less, value, per) = (time(few), time(many), many - few);
    let name = format!("{name}, {}", thread_count(threads));
    print_step(&name, value, less, per);
}

fn dense(n: usize) -> Result<LinearProblem> {
    let (x, y) = (points(0, n, 8)?, points(1, n, 8)?);
    let difference = x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?;
    LinearProblem::uniform(Geometry::dense(&difference.sqr()?.sum(2)?)?)
}

const POINTS: usize = 10_000;

fn lazy(d: usize) -> Result<LinearProblem> {
    let (x, y) = (points(0, POINTS, d)?, points(1, POINTS, d)?);
    LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)
}

/// Memory that a solve adds at its peak; call it before anything larger.
fn memory() -> Result<()> {
    let problem = lazy(64)?;
    let memory = Memory::now();
    sweeps(&problem, 0.05, 1);
    if let Some(added) = memory.added_at_peak() {
        print("points 10000: memory", added);
        print("points 10000: costs", (POINTS * POINTS * 4) as f64);
    }
    Ok(())
}

/// A sweep over computed costs, and the time of its arithmetic: pairs (2 d / F + 1 / E).
fn computed(threads: usize) -> Result<()> {
    let (flop, exponential) = machine::speed(threads);
    print(
        &format!("machine: flops, {}", thread_count(threads)),
        flop * 1e9,
    );
    print(
        &format!("machine: exponentials, {}", thread_count(threads)),
        exponential * 1e9,
    );
    for d in [16, 64] {
        let each = 2.0 * d as f64 * flop + exponential;
        let name = format!("{POINTS}, width {d}");
        print(
            &format!("bound {name}, {}", thread_count(threads)),
            (POINTS * POINTS) as f64 * each,
        );
        further(&format!("points {name}"), &lazy(d)?, (1, 4), threads);
    }
    Ok(())
}

/// 50 points on a line, f32, epsilon 1e-4, at most 1000 sweeps.
fn small_epsilon() -> Result<()> {
    let (mut x, mut y) = (uniform(2, 50), uniform(3, 50));
    let of = |x: &[f64]| tensor(x.to_vec(), &[50, 1]);
    let geometry = Geometry::squared_euclidean(&of(&x)?, &of(&y)?)?;
    let solver = Sinkhorn::new(1e-4)?.tolerance(1e-9)?.max_iterations(1000)?;
    let solution = solver.solve(&LinearProblem::uniform(geometry)?)?;
    x.sort_by(f64::total_cmp);
    y.sort_by(f64::total_cmp);
    let exact = x
        .iter()
        .zip(&y)
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        / 50.0;
    print(
        "line 50: cost error",
        (f64::from(solution.transport_cost.to_scalar::<f32>()?) - exact).abs(),
    );
    print("line 50: marginal error", solution.marginal_error());
    Ok(())
}

/// 1024 problems of 16 x 16 at once, 100 sweeps each.
fn batch() -> Result<()> {
    let cost = tensor(uniform(4, 1024 * 256), &[1024, 16, 16])?;
    let problem = LinearProblem::uniform(Geometry::dense(&cost)?)?;
    let solver = Sinkhorn::new(0.1)?.epsilon_scaling(1.0)?.tolerance(1e-30)?;
    let solver = solver.max_iterations(100)?;
    let pool = pool(1);
    let time = least(3, || {
        black_box(pool.install(|| solver.solve(&problem)).unwrap());
    });
    print("batch 1024 of 16", time);
    Ok(())
}

/// The reference loss between three mixtures of 7, forward and backward.
fn joint() -> Result<()> {
    let variable = |seed, shape: &[usize]| {
        Ok(Var::from_tensor(&tensor(
            uniform(seed, shape.iter().product()),
            shape,
        )?)?)
    };
    let weights = (0..3).map(|_| Ok(Var::from_tensor(&tensor(vec![1.0 / 7.0; 7], &[7])?)?));
    let weights = weights.collect::<Result<Vec<Var>>>()?;
    let costs = (7..10)
        .map(|seed| variable(seed, &[7, 7]))
        .collect::<Result<Vec<Var>>>()?;
    let plain = |x: &[Var]| x.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let solver = KernelSinkhorn::new(0.1, 50)?;
    let once = || -> Result<()> {
        let problem = MultiMarginalProblem::pairwise(&plain(&weights), &plain(&costs))?;
        black_box(solver.loss(&problem)?.backward()?);
        Ok(())
    };
    let pool = pool(1);
    let time = least(200, || pool.install(once).unwrap());
    print("joint 7 x 7 x 7", time);
    Ok(())
}

/// The exact cost between uniform points in the unit cube, f64.
fn exact(n: usize) -> Result<()> {
    let of = |seed| Tensor::from_vec(uniform(seed, 3 * n), (n, 3), &Device::Cpu);
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&of(5)?, &of(6)?)?)?;
    let pool = pool(1);
    let time = least(2, || {
        let solution = pool
            .install(|| NetworkSimplex::new().solve(&problem))
            .unwrap();
        assert!(solution.converged());
    });
    print(&format!("exact {n}"), time);
    Ok(())
}

/// 200 steps of a plan of rank 10 between 20,000 points each, f64.
fn low_rank() -> Result<()> {
    let of = |seed| Tensor::from_vec(uniform(seed, 60_000), (20_000, 3), &Device::Cpu);
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&of(10)?, &of(11)?)?)?;
    let solver = LowRankSinkhorn::new(10, 1)?
        .tolerance(1e-12)?
        .max_iterations(200)?;
    let pool = pool(1);
    let time = least(1, || {
        black_box(pool.install(|| solver.solve(&problem)).unwrap());
    });
    print("low rank 20000", time);
    Ok(())
}

fn main() -> Result<()> {
    memory()?;
    // Fewer sweeps than a solve limited by rounding makes before it continues in f64.
    further("dense 1000", &dense(1000)?, (20, 220), 1);
    let large = dense(4096)?;
    further("dense 4096", &large, (5, 25), 1);
    further("dense 4096", &large, (5, 25), 2);
    computed(1)?;
    computed(2)?;
    small_epsilon()?;
    joint()?;
    batch()?;
    exact(1000)?;
    exact(2000)?;
    exact(5000)?;
    low_rank()?;
    Ok(())
}
