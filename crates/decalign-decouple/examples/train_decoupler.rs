//! Trains a decoupler on two synthetic modalities and prints how well the parts are separated, before and after:
//! `cargo run --release -p decalign-decouple --example train_decoupler`.
//!
//! Each modality mixes a shared signal with private noise. The losses are of MISA's kind: unique and common parts are
//! uncorrelated, common parts have equal central moments, and both together reconstruct the features.

use std::error::Error;

use decalign_decouple::candle_core::{DType, Device, Tensor};
use decalign_decouple::{
    Batch, CentralMomentDiscrepancy, CrossCorrelation, Decoupler, Diagnostics, Objectives,
    PairwiseLoss, Parameters, PartPairs, Reconstruction, Result, Stream,
};

const NAMES: [&str; 2] = ["text", "audio"];
const WIDTH: usize = 8;

/// 400 samples of both modalities: a mixture of four shared and four own numbers, from a fixed seed.
fn features() -> Result<[Tensor; 2]> {
    let normal = |shape: (usize, usize), number| Stream::new(3, number).normal_tensor(shape);
    let shared = normal((400, 4), 0)?;
    let modality = |number: u64| -> Result<Tensor> {
        let own = normal((400, 4), number)?;
        let mixing = normal((8, WIDTH), 10 + number)?;
        Ok(Tensor::cat(&[&shared, &own], 1)?.matmul(&mixing)?)
    };
    Ok([modality(1)?, modality(2)?])
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let features = features()?;
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let decoupler = Decoupler::new(&parameters, &NAMES, WIDTH)?;
    let apart = PairwiseLoss::new(CrossCorrelation, &[PartPairs::UniqueCommon])?;
    let moments = CentralMomentDiscrepancy::new(5, 4.0)?;
    let alike = PairwiseLoss::new(moments, &[PartPairs::CommonCommon])?;
    let complete = Reconstruction::new(&parameters, &NAMES, WIDTH)?;
    let objectives = Objectives::new()
        .with(3.0, apart)?
        .with(0.1, alike)?
        .with(0.1, complete)?;

    let report = |title: &str| -> Result<()> {
        let parts = decoupler.forward_all(&features)?;
        println!("{title}\n{}\n", Diagnostics::new().report(&NAMES, &parts)?);
        Ok(())
    };
    report("before training")?;
    for step in 0..=1500 {
        let parts = decoupler.forward_all(&features)?;
        let losses = objectives.evaluate(&Batch::new(&parts)?.with_features(&features)?)?;
        if step % 500 == 0 {
            let terms = losses
                .terms
                .iter()
                .map(|(name, loss)| Ok(format!("{name} {:.4}", loss.to_scalar::<f64>()?)));
            let terms = terms.collect::<Result<Vec<_>>>()?;
            println!("step {step:>4}: {}", terms.join(", "));
        }
        // Gradient descent; an optimiser of your choice goes here.
        let gradients = losses.total.backward()?;
        for (_, parameter) in parameters.named() {
            if let Some(gradient) = gradients.get(&parameter) {
                parameter.set(&(parameter.as_tensor() - (gradient * 0.1)?)?)?;
            }
        }
    }
    println!();
    report("after training")?;
    println!("R^2 near 0 or below: a part does not predict the other on held-out samples.");
    Ok(())
}
