//! Trains a shift and a scale so that one sample follows the distribution of another, by gradient descent on MMD:
//! `cargo run --release -p decalign-mmd --example matching_loss`.

use std::error::Error;

use decalign_mmd::candle_core::{DType, Device, Var};
use decalign_mmd::{Estimator, Kernel, Mmd, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    // The target has mean 3 and deviation 2; the source is standard normal.
    let source = Stream::new(1, 0).normal_tensor((256, 1))?;
    let target = ((Stream::new(1, 1).normal_tensor((256, 1))? * 2.0)? + 3.0)?;
    let shift = Var::zeros((1, 1), DType::F64, &Device::Cpu)?;
    let log_scale = Var::zeros((1, 1), DType::F64, &Device::Cpu)?;

    // Gaussians of several bandwidths: the wide ones attract from afar, the narrow ones match the shape.
    let gaussian = Kernel::gaussian_length_scale;
    let kernel = gaussian(0.5)? + gaussian(1.0)? + gaussian(2.0)? + gaussian(4.0)?;
    let mmd = Mmd::new(kernel, Estimator::Biased);

    println!("step    MMD^2    mean  deviation");
    for step in 0..=200 {
        let scale = log_scale.exp()?;
        let moved = source.broadcast_mul(&scale)?.broadcast_add(&shift)?;
        let loss = mmd.squared(&moved, &target)?;
        if step % 40 == 0 {
            let number = |x: &Var| x.flatten_all()?.to_vec1::<f64>();
            let (mean, deviation) = (number(&shift)?[0], number(&log_scale)?[0].exp());
            println!(
                "{step:>4}  {:.5}  {mean:>6.3}  {deviation:>9.3}",
                loss.to_scalar::<f64>()?
            );
        }
        let gradients = loss.backward()?;
        for variable in [&shift, &log_scale] {
            let gradient = gradients.get(variable).ok_or("no gradient")?;
            variable.set(&(variable.as_tensor() - (gradient * 0.5)?)?)?;
        }
    }
    println!("target           3.000      2.000");
    Ok(())
}
