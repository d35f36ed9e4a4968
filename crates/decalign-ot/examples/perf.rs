#![allow(missing_docs)]
use candle_core::{DType, Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::simd;
use decalign_ot::*;
use std::time::Instant;
fn points(n: usize, d: usize, k: u64) -> Tensor {
    (Stream::new(1, k).normal_tensor((n, d)).unwrap() / (d as f64).sqrt())
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn cpu_sweep(p: &LinearProblem, k: usize, reps: usize) -> f64 {
    let pool = pool(1);
    let run = |k: usize| {
        (0..reps)
            .map(|_| {
                pool.install(|| {
                    let t = cpu();
                    sweeps(p, k);
                    cpu() - t
                })
            })
            .fold(f64::INFINITY, f64::min)
    };
    (run(k + 2) - run(2)) / k as f64
}
fn best(k: usize, mut f: impl FnMut()) -> f64 {
    (0..k)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
fn pool(t: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(t)
        .build()
        .unwrap()
}
fn sweeps(p: &LinearProblem, k: usize) {
    let s = Sinkhorn::new(0.1)
        .unwrap()
        .epsilon_scaling(1.0)
        .unwrap()
        .acceleration(Acceleration::Plain)
        .unwrap()
        .tolerance(1e-30)
        .unwrap()
        .max_iterations(k)
        .unwrap();
    s.solve(p).unwrap();
}
fn per_sweep(p: &LinearProblem, t: usize, k: usize, reps: usize) -> f64 {
    let pool = pool(t);
    let long = best(reps, || pool.install(|| sweeps(p, k + 2)));
    let short = best(reps, || pool.install(|| sweeps(p, 2)));
    (long - short) / k as f64
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let which = args.get(1).map(String::as_str).unwrap_or("all");
    // E and F
    let mut buf = vec![0.5f32; 4096];
    let e = best(20, || {
        for _ in 0..200 {
            buf.iter_mut().for_each(|v| *v = -0.5);
            simd::exp_in_place(&mut buf)
        }
    });
    let e2 = best(20, || {
        for _ in 0..200 {
            buf.iter_mut().for_each(|v| *v = -0.5);
            simd::exp2_in_place(&mut buf)
        }
    });
    let ge = 4096.0 * 200.0 / e / 1e9;
    println!(
        "exp {:.2} G/s exp2 {:.2} G/s",
        ge,
        4096.0 * 200.0 / e2 / 1e9
    );
    let (a, b) = (vec![1f32; 1024 * 1024], vec![1f32; 1024 * 1024]);
    let mut c = vec![0f32; 1024 * 1024];
    let one = pool(1);
    use decalign_core::gemm::*;
    let t = best(5, || {
        one.install(|| {
            matmul(
                &mut c,
                1024,
                Matrix::new(&a, 1024, 1024),
                Matrix::new(&b, 1024, 1024),
                Store::Write,
            )
        })
    });
    let gf = 2.0 * 1024f64.powi(3) / t / 1e9;
    println!("gemm {gf:.1} Gflop/s");
    if which == "all" || which == "dense" {
        for (n, k) in [(1000usize, 50usize), (4096, 10)] {
            let (x, y) = (points(n, 8, 0), points(n, 8, 1));
            let cost = x
                .unsqueeze(1)
                .unwrap()
                .broadcast_sub(&y.unsqueeze(0).unwrap())
                .unwrap()
                .sqr()
                .unwrap()
                .sum(2)
                .unwrap();
            let p = LinearProblem::uniform(Geometry::dense(&cost).unwrap()).unwrap();
            println!("dense {n} cpu {:.3} ms", cpu_sweep(&p, k, 10) * 1e3);
            let (t1, t2) = (per_sweep(&p, 1, k, 5), per_sweep(&p, 2, k, 5));
            println!(
                "dense {n}: 1 thread {:.3} ms, 2 threads {:.3} ms ({:.2}x)",
                t1 * 1e3,
                t2 * 1e3,
                t1 / t2
            );
        }
    }
    if which == "all" || which == "lazy" {
        for d in [16usize, 64] {
            let n = 10000;
            let (x, y) = (points(n, d, 0), points(n, d, 1));
            let p = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y).unwrap()).unwrap();
            println!("lazy {d} cpu {:.1} ms", cpu_sweep(&p, 3, 3) * 1e3);
            let t1 = per_sweep(&p, 1, 3, 3);
            println!("lazy d {d} cpu {:.1} ms", cpu_sweep(&p, 3, 3) * 1e3);
            let bound = 1e8 * (2.0 * d as f64 / gf / 1e9 + 1.0 / (ge * 1e9));
            println!(
                "lazy d {d}: {:.1} ms, bound {:.1} ms, ratio {:.2}",
                t1 * 1e3,
                bound * 1e3,
                t1 / bound
            );
        }
    }
    if which == "all" || which == "batch" {
        let (x, y) = (
            Stream::new(1, 5).normal_tensor((1024, 16, 2)).unwrap(),
            Stream::new(1, 6).normal_tensor((1024, 16, 2)).unwrap(),
        );
        let cost = x
            .unsqueeze(2)
            .unwrap()
            .broadcast_sub(&y.unsqueeze(1).unwrap())
            .unwrap()
            .sqr()
            .unwrap()
            .sum(3)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap();
        for th in [1, 2] {
            let pool = pool(th);
            let t = best(5, || {
                pool.install(|| {
                    let p = LinearProblem::uniform(Geometry::dense(&cost).unwrap()).unwrap();
                    let s = Sinkhorn::new(1.0).unwrap().solve(&p).unwrap();
                    assert!(s.converged());
                })
            });
            let p = LinearProblem::uniform(Geometry::dense(&cost).unwrap()).unwrap();
            println!(
                "batch {th}: {:.2} ms, iterations {}",
                t * 1e3,
                Sinkhorn::new(1.0).unwrap().solve(&p).unwrap().iterations()
            );
        }
    }
    let _ = Device::Cpu;
}
