//! Measurements of this workspace for `cargo xtask peers gmm`, one JSON object a line.
//!
//! `(value - less) / per`, where given, is the time of one of `per` further steps: a long fit less a short
//! one, so that reading the data and starting do not count.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use candle_core::{Device, Tensor, Var};
use decalign_benches::{Memory, least, pool, print, print_step, thread_count};
use decalign_core::Result;
use decalign_core::random::Stream;
use decalign_gmm::{Covariance, Em, Gradient, Initialization, UnrolledEm};

const SAMPLES: usize = 100_000;
const WIDTH: usize = 30;
const COMPONENTS: usize = 30;

/// Standard normal numbers, f32, drawn in pieces so that memory has no peak here.
fn normal(seed: u64, shape: &[usize]) -> Result<Tensor> {
    const PIECE: usize = 1 << 14;
    let n = shape.iter().product();
    let mut numbers = Vec::with_capacity(n);
    for first in (0..n).step_by(PIECE) {
        let piece = Stream::new(seed, first as u64).normal(PIECE.min(n - first));
        numbers.extend(piece.into_iter().map(|v| v as f32));
    }
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

fn steps(x: &Tensor, kind: Covariance, count: usize) {
    let em = Em::new(COMPONENTS, kind)
        .unwrap()
        .initialization(Initialization::EvenRows);
    let em = em.max_iterations(count).tolerance(0.0).unwrap();
    let fit = em.fit(x).unwrap();
    assert_eq!(fit.convergence()[0].iterations, count);
}

/// The time of a further step.
fn further(x: &Tensor, name: &str, kind: Covariance, threads: usize) {
    let pool = pool(threads);
    let time = |count| least(3, || pool.install(|| steps(x, kind, count)));
    let (less, value) = (time(1), time(6));
    let threads = thread_count(threads);
    print_step(&format!("{name}, {threads}"), value, less, 5);
}

/// Peak memory of data and fit; call it before anything larger.
fn memory() -> Result<Tensor> {
    let memory = Memory::now();
    let x = normal(0, &[SAMPLES, WIDTH])?;
    pool(2).install(|| steps(&x, Covariance::Full, 2));
    if let Some(added) = memory.added_at_peak() {
        print("full: memory", added);
        print("full: data", (SAMPLES * WIDTH * 4) as f64);
    }
    Ok(x)
}

/// The model's fits: three batches of 32 x 64, seven components, five steps, forward and backward.
fn model() -> Result<()> {
    let x = (1..4)
        .map(|seed| Ok(Var::from_tensor(&normal(seed, &[32, 64])?)?))
        .collect::<Result<Vec<Var>>>()?;
    let em = UnrolledEm::new(7, 5, 1e-4)?;
    let reference = || -> Result<()> {
        for x in &x {
            let fit = em.fit(x)?;
            black_box(fit.responsibilities.sum_all()?.backward()?);
        }
        Ok(())
    };
    let pool = pool(1);
    let time = least(200, || pool.install(reference).unwrap());
    print("model: reference", time);
    let views: Vec<Tensor> = x.iter().map(|v| v.as_tensor().clone()).collect();
    let all = Var::from_tensor(&Tensor::stack(&views, 0)?)?;
    let em = Em::new(7, Covariance::Diagonal)?.initialization(Initialization::EvenRows);
    let em = em.regularisation(1e-4)?.max_iterations(5).tolerance(0.0)?;
    let em = em.gradient(Gradient::Unrolled);
    let batch = || -> Result<()> {
        black_box(em.fit(&all)?.mixture.means().sum_all()?.backward()?);
        Ok(())
    };
    let time = least(200, || pool.install(batch).unwrap());
    print("model: batch", time);
    Ok(())
}

/// 1000 mixtures of 200 x 8 at once: k-means, then ten steps.
fn many() -> Result<()> {
    let x = normal(6, &[1000, 200, 8])?;
    let pool = pool(2);
    for (name, kind) in [
        ("full", Covariance::Full),
        ("diagonal", Covariance::Diagonal),
    ] {
        let em = Em::new(4, kind)?.max_iterations(10).tolerance(0.0)?;
        let time = least(3, || {
            black_box(pool.install(|| em.fit(&x)).unwrap());
        });
        print(&format!("1000 of 200 x 8, {name}"), time);
    }
    Ok(())
}

fn main() -> Result<()> {
    let x = memory()?;
    for threads in [2, 1] {
        further(&x, "diagonal", Covariance::Diagonal, threads);
        further(&x, "full", Covariance::Full, threads);
    }
    further(&x, "tied", Covariance::Tied, 2);
    further(&x, "spherical", Covariance::Spherical, 2);
    model()?;
    many()
}
