//! Times MMD on a device; on the CPU, or with `--n`, with fewer points than 100,000 a sample:
//! `cargo run --release -p decalign-benches --features cuda --bin device_mmd -- --device cuda`.

use candle_core::{DType, Tensor, Var};
use decalign_benches::device::{self, Outcome, median, normal, option};
use decalign_mmd::{Estimator, Kernel, Mmd};

fn backward(loss: &Tensor, x: &Var) -> Outcome<()> {
    loss.backward()?.get(x).ok_or("no gradient")?;
    Ok(())
}

/// Bounds by multiply-adds of an H100, 33.5e12 a second in f32: each pair once forward; backward every pair in both orders,
/// once for its distance and once for its gradient.
fn bounds(n: usize, d: usize) -> (f64, f64) {
    let all = (2 * n) as f64 * (2 * n) as f64 * d as f64 / 33.5e12 * 1e3;
    (0.5 * all, 2.5 * all)
}

fn main() -> Outcome<()> {
    let device = device::open()?;
    let n = match option("--n") {
        Some(n) => n.parse()?,
        None if device.is_cpu() => 1000,
        None => 100_000,
    };
    let d = 64;
    let sample = |n: usize, number: u64| normal(&[n, d], number, DType::F32, &device);
    let gaussian = |l: f64| Kernel::gaussian_length_scale(l);
    let kernels = [
        ("one Gaussian", gaussian(8.0)?),
        (
            "five Gaussians",
            gaussian(4.0)? + gaussian(6.0)? + gaussian(8.0)? + gaussian(11.0)? + gaussian(16.0)?,
        ),
    ];
    let (x, y) = (sample(n, 0)?, sample(n, 1)?);
    let (forward, both) = bounds(n, d);
    println!("n = m = {n}, d = {d}, f32");
    for (name, kernel) in kernels {
        let mmd = Mmd::new(kernel, Estimator::Unbiased);
        let plain = (x.as_detached_tensor(), y.as_detached_tensor());
        let value = mmd.squared(&plain.0, &plain.1)?.to_scalar::<f32>()?;
        let only = median(&device, 5, || {
            mmd.squared(&plain.0, &plain.1)?;
            Ok(())
        })?;
        let back = median(&device, 3, || {
            backward(&mmd.squared(x.as_tensor(), y.as_tensor())?, &x)
        })?;
        println!(
            "{name}: MMD^2 {value:.3e}, forward {only:.3} ms, with gradients {back:.3} ms (bounds on an H100 {forward:.3} and {both:.3} ms)"
        );
    }
    // The model's loss: three modalities, a batch of 32.
    let mmd = Mmd::new(Kernel::gaussian_variance(1.0)?, Estimator::Biased);
    let each = (2..5).map(|i| sample(32, i)).collect::<Outcome<Vec<_>>>()?;
    let tensors: Vec<Tensor> = each.iter().map(|x| x.as_tensor().clone()).collect();
    let back = median(&device, 50, || {
        backward(&mmd.mean_over_pairs(&tensors)?, &each[0])
    })?;
    println!("three samples of 32 x 64, with gradients: {back:.3} ms");
    Ok(())
}
