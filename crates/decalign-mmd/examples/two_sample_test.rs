//! Do two groups of measurements come from one distribution? `cargo run --release -p decalign-mmd --example two_sample_test`.
//!
//! Two small tables hold three measurements a row; in the second table the second measurement is half a standard
//! deviation larger. The bandwidth is the median heuristic; a permutation test gives the p-value.

use std::error::Error;

use decalign_mmd::candle_core::Tensor;
use decalign_mmd::{
    Estimator, Kernel, Mmd, PermutationTest, Power, Resampling, Stream, median_heuristic,
};

/// `n` rows of three standard normal numbers, the second one shifted.
fn table(n: usize, shift: f64, number: u64) -> Result<Tensor, Box<dyn Error>> {
    let noise = Stream::new(1, number).normal_tensor((n, 3))?;
    let shift = Tensor::new(&[[0.0, shift, 0.0]], noise.device())?;
    Ok(noise.broadcast_add(&shift)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let control = table(120, 0.0, 0)?;
    let treated = table(100, 0.5, 1)?;

    let bandwidth = median_heuristic(&[control.clone(), treated.clone()])?;
    let kernel = Kernel::gaussian_length_scale(bandwidth)?;
    println!("120 and 100 rows, 3 columns; Gaussian kernel, length scale {bandwidth:.3}\n");

    let mmd = Mmd::new(kernel.clone(), Estimator::Unbiased);
    println!("pair                  MMD^2      p-value  decision at level 0.05");
    for (name, x, y) in [
        ("control, treated", &control, &treated),
        ("control, control'", &control, &table(100, 0.0, 2)?),
    ] {
        let squared = mmd.squared(x, y)?.to_scalar::<f64>()?;
        let test = PermutationTest::new(kernel.clone(), Estimator::Unbiased, Resampling::seeded(7));
        let outcome = test.test(x, y)?;
        let decision = match outcome.rejected {
            true => "different distributions",
            false => "no difference found",
        };
        println!(
            "{name:<18} {squared:>9.5}  {:>9.3}  {decision}",
            outcome.p_value
        );
    }

    let power = Power::new(kernel, &control, &treated, Resampling::seeded(7))?;
    println!(
        "\nA test of 50 and 50 rows would detect this difference with probability {:.2};",
        power.at(50, 50)
    );
    println!(
        "for 0.95 it takes {} rows in each group.",
        power.sample_size(0.95)?
    );
    Ok(())
}
