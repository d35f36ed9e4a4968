//! DecAlign on two custom modalities: a microphone and a thermometer that watch the same machine.
//!
//! `cargo run --release -p decalign --example two_modalities`

use candle_core::{Device, Tensor};
use decalign::config::Config;
use decalign::core::random::Stream;
use decalign::data::{Labels, Modality, Part};
use decalign::train::{DecAlignTrainer, Silent};
use decalign::{Dataset, Predictor, Result};

const SAMPLES: usize = 240;

/// Sequences of `steps` by `width` numbers that follow the load, with independent noise.
fn sensor(name: &str, load: &[f64], (steps, width): (usize, usize), seed: u64) -> Result<Modality> {
    let noise = Stream::new(seed, 0).normal(SAMPLES * steps * width);
    let value = |i: usize| {
        let (sample, step) = (i / (steps * width), i / width % steps);
        let wave = (0.5 * (step + 1) as f64 * load[sample]).sin();
        (wave + 0.3 * noise[i]) as f32
    };
    let features: Vec<f32> = (0..SAMPLES * steps * width).map(value).collect();
    let features = Tensor::from_vec(features, (SAMPLES, steps, width), &Device::Cpu)?;
    // Recordings may end early.
    let lengths = (0..SAMPLES).map(|i| steps - i % 3).collect();
    Ok(Modality::new(name, &features, Some(lengths))?)
}

pub(crate) fn main() -> Result<()> {
    let load = Stream::new(7, 1).uniform(SAMPLES, -1.5, 1.5);
    let sound = sensor("sound", &load, (12, 8), 1)?;
    let heat = sensor("heat", &load, (5, 3), 2)?;
    let part = |i: usize| Some([Part::Train, Part::Train, Part::Valid, Part::Test][i % 4]);
    let data = Dataset::new("machine", vec![sound, heat])?
        .with_labels(Labels::Scores(load.iter().map(|v| *v as f32).collect()))?
        .with_split("", (0..SAMPLES).map(part).collect())?;

    let mut config = Config::default();
    for set in [
        "dst_feature_dim_nheads=16,2",
        "nlevels=1",
        "conv1d_kernel_sizes=3,1",
        "num_prototypes=4",
        "num_epochs=8",
        "learning_rate=3e-3",
    ] {
        config.set(set)?;
    }
    let outcome = DecAlignTrainer::new(&config, &data, &Device::Cpu)?.run(None, &mut Silent)?;
    println!("test: {:?}", outcome.test);

    let predictor = Predictor::new(outcome.model, &Device::Cpu)?;
    let rows = data.part(None, Part::Test)?;
    let predictions = predictor.predict(&data, &rows[..3])?;
    for (i, row) in rows[..3].iter().enumerate() {
        println!(
            "load {:.2}, predicted {:.2}",
            load[*row],
            predictions.scores(i)[0]
        );
    }
    assert!(outcome.test.get("Corr") > Some(0.5));
    Ok(())
}
