//! Times the model's mixtures on a device: `cargo run --release -p decalign-gmm --features cuda --example device_em -- --device cuda`.

use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Var};
use decalign_core::device::Place;
use decalign_core::random::Stream;
use decalign_gmm::{Covariance, Em, Gradient, Start, UnrolledEm};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The median of some runs in microseconds, after some that are not counted.
fn time(device: &Device, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    const RUNS: usize = 101;
    let mut each = Vec::new();
    for run in 0..RUNS + 10 {
        device.synchronize()?;
        let start = Instant::now();
        f()?;
        device.synchronize()?;
        if run >= 10 {
            each.push(1e6 * start.elapsed().as_secs_f64());
        }
    }
    each.sort_by(f64::total_cmp);
    Ok(each[RUNS / 2])
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip_while(|a| a != "--device");
    let place: Place = arguments.nth(1).as_deref().unwrap_or("cpu").parse()?;
    let device = place.open()?;
    let em = UnrolledEm::new(6, 5, 1e-4)?;
    for (batch, width) in [(32, 40), (128, 128)] {
        let x = Stream::new(1, 0).normal_tensor((batch, width))?;
        let x = Var::from_tensor(&x.to_dtype(DType::F32)?.to_device(&device)?)?;
        let plain = x.as_detached_tensor();
        let forward = time(&device, || Ok(em.fit(&plain).map(|_| ())?))?;
        let both = time(&device, || {
            let fit = em.fit(x.as_tensor())?;
            let loss = (fit.means.sqr()?.sum_all()? + fit.variances.sum_all()?)?;
            let gradients = loss.backward()?;
            gradients.get(&x).ok_or("no gradient")?;
            Ok(())
        })?;
        println!(
            "{place}, batch {batch}, d {width}, K 6, 5 steps, f32: forward {forward:.1} us, with gradients {both:.1} us"
        );
    }
    let n = if device.is_cpu() { 5000 } else { 100_000 };
    let x = Stream::new(1, 1).normal_tensor((n, 64))?;
    let x = x.to_dtype(DType::F32)?.to_device(&device)?;
    // What starts take drops out of a difference.
    let run = |steps: usize| -> Result<f64> {
        let em = Em::new(32, Covariance::Diagonal)?.tolerance(0.0)?;
        let em = em.start(Start::EvenRows).max_iterations(steps);
        let em = em.gradient(Gradient::Nothing);
        let start = Instant::now();
        em.fit(&x)?;
        device.synchronize()?;
        Ok(1e6 * start.elapsed().as_secs_f64())
    };
    run(1)?;
    let step = (run(101)? - run(1)?) / 100.0;
    println!("{place}, n {n}, d 64, K 32, diagonal, f32: a step {step:.1} us");
    Ok(())
}
