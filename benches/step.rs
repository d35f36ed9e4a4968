//! A training step on the embedded data, by phase: `cargo bench -p decalign-benches`.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device};
use criterion::{Criterion, criterion_group, criterion_main};
use decalign::Dataset;
use decalign::config::Config;
use decalign::core::nn::Mode;
use decalign::core::random::Stream;
use decalign::model::DecAlign;
use decalign::objective::Objective;
use decalign::optim::{Adam, AdamSettings};

fn step(c: &mut Criterion) {
    let config = Config::preset("mfeat").unwrap();
    let views = config.modalities.clone().unwrap();
    let data = Dataset::mfeat().unwrap().select(&views).unwrap();
    let settings = config.resolve(&data).unwrap();
    let model = DecAlign::new(&settings.model, 1, DType::F32, &Device::Cpu).unwrap();
    let objective = Objective::new(&settings.objective, None);
    let mut adam = Adam::new(model.variables(), AdamSettings::new(0.0, 1.0));
    let rows: Vec<usize> = (0..32).map(|i| i * 37).collect();
    let batch = data.batch(&rows, DType::F32, &Device::Cpu).unwrap();
    let labels = batch.labels.unwrap();
    let mode = Mode::Training(Stream::new(1, 0));
    let forward = || {
        let output = model.forward(&batch.sequences, true, mode).unwrap();
        objective.losses(&output, &labels).unwrap().total
    };
    let mut group = c.benchmark_group("mfeat, batch 32");
    group.bench_function("prediction", |b| {
        b.iter(|| {
            model
                .forward(&batch.sequences, false, Mode::Inference)
                .unwrap()
        })
    });
    group.bench_function("forward", |b| b.iter(forward));
    let loss = forward();
    group.bench_function("backward", |b| b.iter(|| loss.backward().unwrap()));
    let gradients = loss.backward().unwrap();
    // A rate of 0, so that the model does not change.
    group.bench_function("Adam", |b| {
        b.iter(|| adam.step(&gradients, |_| 0.0).unwrap())
    });
    group.bench_function("step", |b| {
        b.iter(|| adam.step(&forward().backward().unwrap(), |_| 0.0).unwrap())
    });
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
