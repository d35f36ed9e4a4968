//! Times the mixtures of the model, and EM steps, on a device:
//! `cargo run --release -p decalign-benches --features cuda --bin device_em -- --device cuda`.

use std::time::Instant;

use candle_core::DType;
use decalign_benches::device::{self, Outcome, median, normal};
use decalign_gmm::{Covariance, Em, Gradient, Initialization, UnrolledEm};

fn main() -> Outcome<()> {
    let device = device::open()?;
    let em = UnrolledEm::new(6, 5, 1e-4)?;
    for (batch, width) in [(32, 40), (128, 128)] {
        let x = normal(&[batch, width], 0, DType::F32, &device)?;
        let plain = x.as_detached_tensor();
        let forward = median(&device, 101, || Ok(em.fit(&plain).map(|_| ())?))?;
        let both = median(&device, 101, || {
            let fit = em.fit(x.as_tensor())?;
            let loss = (fit.means.sqr()?.sum_all()? + fit.variances.sum_all()?)?;
            let gradients = loss.backward()?;
            gradients.get(&x).ok_or("no gradient")?;
            Ok(())
        })?;
        let (forward, both) = (1e3 * forward, 1e3 * both);
        println!(
            "batch {batch}, d {width}, K 6, 5 steps, f32: forward {forward:.1} us, with gradients {both:.1} us"
        );
    }
    let n = if device.is_cpu() { 5000 } else { 100_000 };
    let x = normal(&[n, 64], 1, DType::F32, &device)?.as_detached_tensor();
    // The difference of two runs does not include the initialisation.
    let run = |steps: usize| -> Outcome<f64> {
        let em = Em::new(32, Covariance::Diagonal)?.tolerance(0.0)?;
        let em = em.initialization(Initialization::EvenRows);
        let em = em.max_iterations(steps).gradient(Gradient::Nothing);
        let start = Instant::now();
        em.fit(&x)?;
        device.synchronize()?;
        Ok(1e6 * start.elapsed().as_secs_f64())
    };
    run(1)?;
    let step = (run(101)? - run(1)?) / 100.0;
    println!("n {n}, d 64, K 32, diagonal, f32: a step {step:.1} us");
    Ok(())
}
