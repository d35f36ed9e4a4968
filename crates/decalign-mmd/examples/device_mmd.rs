//! Times MMD on a device: `cargo run --release -p decalign-mmd --features cuda --example device_mmd -- --device cuda`.
//! With `--n` other sizes than 100,000 points a sample; a small default on the CPU.

use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::device::Place;
use decalign_core::random::Stream;
use decalign_mmd::{Estimator, Kernel, Mmd};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|a| a != name);
    arguments.nth(1)
}

fn sample(n: usize, d: usize, number: u64, device: &Device) -> Result<Var> {
    let x = Stream::new(1, number).normal_tensor((n, d))?;
    Ok(Var::from_tensor(
        &x.to_dtype(DType::F32)?.to_device(device)?,
    )?)
}

/// The median of some runs in milliseconds, after two that are not counted.
fn time(device: &Device, runs: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut each = Vec::new();
    for run in 0..runs + 2 {
        device.synchronize()?;
        let start = Instant::now();
        f()?;
        device.synchronize()?;
        if run >= 2 {
            each.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    each.sort_by(f64::total_cmp);
    Ok(each[each.len() / 2])
}

fn backward(loss: &Tensor, x: &Var) -> Result<()> {
    let gradients = loss.backward()?;
    gradients.get(x).ok_or("no gradient")?;
    Ok(())
}

/// Bounds by multiply-adds of an H100, 33.5e12 a second in f32: each pair once forward; backward every pair in both orders,
/// once for its distance and once for its gradient.
fn bounds(n: usize, d: usize) -> (f64, f64) {
    let all = (2 * n) as f64 * (2 * n) as f64 * d as f64 / 33.5e12 * 1e3;
    (0.5 * all, 2.5 * all)
}

fn main() -> Result<()> {
    let place: Place = option("--device").as_deref().unwrap_or("cpu").parse()?;
    let device = place.open()?;
    let n = match option("--n") {
        Some(n) => n.parse()?,
        None if device.is_cpu() => 1000,
        None => 100_000,
    };
    let d = 64;
    let gaussian = |l: f64| Kernel::gaussian_length_scale(l);
    let kernels = [
        ("one Gaussian", gaussian(8.0)?),
        (
            "five Gaussians",
            gaussian(4.0)? + gaussian(6.0)? + gaussian(8.0)? + gaussian(11.0)? + gaussian(16.0)?,
        ),
    ];
    let (x, y) = (sample(n, d, 0, &device)?, sample(n, d, 1, &device)?);
    let (forward, both) = bounds(n, d);
    println!("{place}, n = m = {n}, d = {d}, f32");
    for (name, kernel) in kernels {
        let mmd = Mmd::new(kernel, Estimator::Unbiased);
        let plain = (x.as_detached_tensor(), y.as_detached_tensor());
        let value = mmd.squared(&plain.0, &plain.1)?.to_scalar::<f32>()?;
        let only = time(&device, 5, || {
            Ok(mmd.squared(&plain.0, &plain.1).map(|_| ())?)
        })?;
        let back = time(&device, 3, || {
            backward(&mmd.squared(x.as_tensor(), y.as_tensor())?, &x)
        })?;
        println!(
            "{name}: MMD^2 {value:.3e}, forward {only:.3} ms, with gradients {back:.3} ms (bounds on an H100 {forward:.3} and {both:.3} ms)"
        );
    }
    // The model's loss: three modalities, a batch of 32.
    let mmd = Mmd::new(Kernel::gaussian_variance(1.0)?, Estimator::Biased);
    let each = (2..5).map(|i| sample(32, 64, i, &device));
    let each = each.collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = each.iter().map(|x| x.as_tensor().clone()).collect();
    let back = time(&device, 50, || {
        backward(&mmd.mean_over_pairs(&tensors)?, &each[0])
    })?;
    println!("three samples of 32 x 64, with gradients: {back:.3} ms");
    Ok(())
}
