//! Times Sinkhorn on a device; on the CPU with small sizes:
//! `cargo run --release -p decalign-benches --features cuda --bin device_sinkhorn -- --device cuda`.

use candle_core::{DType, Device, Tensor, Var};
use decalign_benches::device::{self, Outcome, mean, normal};
use decalign_core::random::Stream;
use decalign_ot::{Geometry, LinearProblem, Sinkhorn, TransportValue};

fn main() -> Outcome<()> {
    let device = device::open()?;
    many_small(&device)?;
    let sizes: &[usize] = if device.is_cpu() {
        &[500]
    } else {
        &[10_000, 50_000]
    };
    for n in sizes {
        clouds(*n, &device)?;
    }
    Ok(())
}

/// Problems of 32 x 32, to a tolerance.
fn many_small(device: &Device) -> Outcome<()> {
    let count = if device.is_cpu() { 100 } else { 10_000 };
    let numbers = Stream::new(1, 0).uniform(count * 32 * 32, 0.0, 1.0);
    let cost = Tensor::from_vec(numbers, (count, 32, 32), &Device::Cpu)?;
    let cost = cost.to_dtype(DType::F32)?.to_device(device)?;
    let solver = Sinkhorn::new(0.1)?.tolerance(1e-5)?;
    let problem = LinearProblem::uniform(Geometry::dense(&cost)?)?;
    let (time, value) = mean(device, 20, || Ok(solver.value(&problem)?))?;
    let summary = summary(&value)?;
    println!("{count} problems of 32 x 32: {time:.3} ms; {summary}");
    let cost = Var::from_tensor(&cost)?;
    let problem = LinearProblem::uniform(Geometry::dense(&cost)?)?;
    let (time, _) = mean(device, 20, || {
        let value = solver.value(&problem)?.value;
        Ok(value.sum_all()?.backward()?)
    })?;
    println!("{count} problems of 32 x 32 with gradients: {time:.3} ms");
    Ok(())
}

/// Two clouds in 64 dimensions, 10 sweeps.
fn clouds(n: usize, device: &Device) -> Outcome<()> {
    let cloud = |number| normal(&[n, 64], number, DType::F32, device);
    let (x, y) = (cloud(1)?, ((cloud(2)?.as_detached_tensor() * 0.8)? + 0.3)?);
    let solver = Sinkhorn::new(5.0)?.tolerance(2e-6)?.epsilon_scaling(1.0)?;
    let solver = solver.max_iterations(10)?;
    let plain = Geometry::squared_euclidean(&x.as_detached_tensor(), &y)?;
    let problem = LinearProblem::uniform(plain)?;
    let (time, value) = mean(device, 5, || Ok(solver.value(&problem)?))?;
    let summary = summary(&value)?;
    println!("{n} points, 10 sweeps and the value: {time:.2} ms; {summary}");
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let (time, _) = mean(device, 3, || {
        Ok(solver.value(&problem)?.value.backward()?)
    })?;
    println!("{n} points with the gradient of one side: {time:.2} ms");
    Ok(())
}

/// Sweeps, errors and the mean value of the solves.
fn summary(solved: &TransportValue) -> Outcome<String> {
    let numbers = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let largest = |x: &[f64]| x.iter().copied().fold(0.0, f64::max);
    let sweeps = numbers(&solved.iteration_counts)?;
    let error = largest(&numbers(&solved.marginal_errors)?);
    let (each, most) = (mean(&sweeps), largest(&sweeps));
    let value = mean(&numbers(&solved.value)?);
    Ok(format!(
        "sweeps {each:.1} on average, {most} at most; marginal error {error:.1e}; mean value {value:.6}"
    ))
}
