//! Times Sinkhorn on a device: `device_sinkhorn [--device cpu|cuda|metal]`; on the CPU with small sizes.

use std::env;
use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::device::Place;
use decalign_core::random::Stream;
use decalign_ot::{Geometry, LinearProblem, Sinkhorn, TransportValue};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let place = match &arguments[..] {
        [] => Place::Cpu,
        [flag, place] if flag == "--device" => place.parse()?,
        _ => return Err("usage: device_sinkhorn [--device PLACE]".into()),
    };
    let device = place.open()?;
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
    let (time, found) = timed(device, 20, || Ok(solver.value(&problem)?))?;
    println!(
        "{count} problems of 32 x 32: {time:.3} ms; {}",
        said(&found)?
    );
    let cost = Var::from_tensor(&cost)?;
    let problem = LinearProblem::uniform(Geometry::dense(&cost)?)?;
    let (time, _) = timed(device, 20, || {
        let found = solver.value(&problem)?;
        found.value.sum_all()?.backward()?;
        Ok(found)
    })?;
    println!("{count} problems of 32 x 32 with gradients: {time:.3} ms");
    Ok(())
}

/// Two clouds in 64 dimensions, 10 sweeps.
fn clouds(n: usize, device: &Device) -> Outcome<()> {
    let cloud = |number: u64| -> Outcome<Tensor> {
        let points = Stream::new(1, number).normal_tensor(&[n, 64])?;
        Ok(points.to_dtype(DType::F32)?.to_device(device)?)
    };
    let (x, y) = (cloud(1)?, ((cloud(2)? * 0.8)? + 0.3)?);
    let solver = Sinkhorn::new(5.0)?
        .tolerance(2e-6)?
        .epsilon_scaling(1.0)?
        .max_iterations(10)?;
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let (time, found) = timed(device, 5, || Ok(solver.value(&problem)?))?;
    println!(
        "{n} points, 10 sweeps and the value: {time:.2} ms; {}",
        said(&found)?
    );
    let x = Var::from_tensor(&x)?;
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let (time, _) = timed(device, 3, || {
        let found = solver.value(&problem)?;
        found.value.backward()?;
        Ok(found)
    })?;
    println!("{n} points with the gradient of one side: {time:.2} ms");
    Ok(())
}

/// Mean milliseconds of `runs` runs after a warm-up, to their end on the device.
fn timed(
    device: &Device,
    runs: usize,
    run: impl Fn() -> Outcome<TransportValue>,
) -> Outcome<(f64, TransportValue)> {
    let mut found = run()?;
    run()?;
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..runs {
        found = run()?;
    }
    device.synchronize()?;
    Ok((1e3 * start.elapsed().as_secs_f64() / runs as f64, found))
}

/// How the solves ended.
fn said(found: &TransportValue) -> Outcome<String> {
    let numbers = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    let mean = |x: Vec<f64>| x.iter().sum::<f64>() / x.len() as f64;
    let sweeps = numbers(&found.iterations)?;
    let most = sweeps.iter().copied().fold(0.0, f64::max);
    let error = numbers(&found.marginal_error)?
        .into_iter()
        .fold(0.0, f64::max);
    let value = mean(numbers(&found.value)?);
    Ok(format!(
        "sweeps {:.1} on average, {most} at most; marginal error {error:.1e}; mean value {value:.6}",
        mean(sweeps)
    ))
}
