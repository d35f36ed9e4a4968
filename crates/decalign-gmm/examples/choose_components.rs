//! Fits mixtures of one to six components and chooses the number by BIC:
//! `cargo run -p decalign-gmm --example choose_components`.

use candle_core::{Device, Tensor};
use decalign_gmm::{Covariance, Em, Mixture};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 600 samples of three known clusters in two dimensions.
    let weights = Tensor::new(&[0.5f64, 0.3, 0.2], &Device::Cpu)?;
    let means = Tensor::new(&[[0f64, 0.0], [4.0, 1.0], [1.0, 5.0]], &Device::Cpu)?;
    let variances = Tensor::new(&[[1f64, 0.5], [0.5, 0.8], [0.7, 0.7]], &Device::Cpu)?;
    let truth = Mixture::new(Covariance::Diagonal, &weights, &means, &variances)?;
    let (x, _) = truth.sample(600, 1)?;

    let mut best: Option<(f64, Mixture)> = None;
    for components in 1..=6 {
        let fit = Em::new(components, Covariance::Full)?.n_init(5)?.fit(&x)?;
        let bic = fit.mixture.bic(&x)?.to_scalar::<f64>()?;
        let convergence = &fit.convergence()[0];
        println!(
            "{components} components: BIC {bic:.1}, {:?} after {} steps",
            convergence.reason, convergence.iterations
        );
        if best.as_ref().is_none_or(|(least, _)| bic < *least) {
            best = Some((bic, fit.mixture));
        }
    }
    let (_, mixture) = best.ok_or("no fit")?;
    println!("{} components have the least BIC:", mixture.components());
    let weights = mixture.weights().to_vec1::<f64>()?;
    let means = mixture.means().to_vec2::<f64>()?;
    for (weight, mean) in weights.iter().zip(&means) {
        println!("weight {weight:.2}, mean {mean:.2?}");
    }
    Ok(())
}
