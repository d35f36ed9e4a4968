//! A cross-modal classifier for three modalities of which samples may lack some:
//! `cargo run -p decalign-fusion --example missing_modality`.

use decalign_fusion::candle_core::{DType, Device, Tensor};
use decalign_fusion::{
    Attention, CrossModalEncoder, Encoder, EncoderSettings, HeadSettings, Join, LayerSettings,
    MaskedSequence, Mode, Parameters, PooledHead, Position, Presence, Result, Stream, Task,
};

const WIDTH: usize = 16;

fn main() -> Result<()> {
    let parameters = Parameters::new(7, DType::F32, &Device::Cpu);
    let layer = LayerSettings::new(WIDTH, 4).residual_dropout(0.1);
    let settings = EncoderSettings::new(2, layer).position(Position::Sinusoidal);
    let encoders =
        ["text", "audio", "vision"].map(|name| Encoder::new(&parameters.scope(name), settings));
    let encoder = CrossModalEncoder::new(encoders.into_iter().collect::<Result<_>>()?)?;
    let head = HeadSettings::new(WIDTH, 3, Task::Classification { classes: 3 }).join(Join::Mean);
    let head = PooledHead::new(&parameters.scope("head"), head)?;

    // Two samples; the second has no audio, and its text has only three words.
    let noise = |steps: usize, seed: u64| -> Result<Tensor> {
        let x = Stream::new(seed, 0).normal_tensor(&[2, steps, WIDTH])?;
        Ok(x.to_dtype(DType::F32)?)
    };
    let words = Tensor::new(
        &[[1f32, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0]],
        &Device::Cpu,
    )?;
    let sequences = [
        Some(MaskedSequence::masked(noise(5, 1)?, words)),
        Some(MaskedSequence::new(noise(12, 2)?)),
        Some(MaskedSequence::new(noise(8, 3)?)),
    ];
    let presence = Presence::new(&Tensor::new(
        &[[1f32, 1.0, 1.0], [1.0, 0.0, 1.0]],
        &Device::Cpu,
    )?)?;

    // One step of training, then the probabilities of the classes.
    let predict = |mode: Mode| -> Result<Tensor> {
        let encoded = encoder.forward_present(&sequences, &presence, Attention::Cross, mode)?;
        let encoded: Vec<_> = encoded
            .into_iter()
            .zip(&sequences)
            .map(|(x, sequence)| Some(MaskedSequence::masked(x?, sequence.as_ref()?.mask.clone())))
            .collect();
        head.forward(&encoded, &presence, mode)
    };
    let loss = predict(Mode::Training(Stream::new(7, 1)))?
        .sqr()?
        .mean_all()?;
    let gradients = loss.backward()?;
    let trained = parameters.named();
    let reached = trained
        .iter()
        .filter(|(_, var)| gradients.get(var.as_tensor()).is_some());
    println!(
        "loss {loss}, gradients of {} of {} parameters",
        reached.count(),
        trained.len()
    );
    println!("probabilities {}", head.scores(&predict(Mode::Inference)?)?);
    Ok(())
}
