//! Data and settings that several tests train on.

use candle_core::{Device, Tensor};
use decalign::config::Config;
use decalign::core::random::Stream;
use decalign::data::{Dataset, Labels, Modality, Part};

/// Three classes, seen through `views` noisy views of two steps; the last of them has lengths.
pub(crate) fn clouds(views: usize) -> Dataset {
    let n = 72;
    let class = |i: usize| i % 3;
    let modality = |view: usize| {
        let width = 4 + view;
        let noise = Stream::new(5, view as u64).normal(n * 2 * width);
        let value = |i: usize| {
            let (sample, feature) = (i / (2 * width), i % width);
            let signal = if feature % 3 == class(sample) {
                1.5
            } else {
                0.0
            };
            (signal + noise[i]) as f32
        };
        let features: Vec<f32> = (0..n * 2 * width).map(value).collect();
        let features = Tensor::from_vec(features, (n, 2, width), &Device::Cpu).unwrap();
        let lengths = (view + 1 == views).then(|| (0..n).map(|i| i % 3).collect());
        Modality::new(format!("view{view}"), &features, lengths).unwrap()
    };
    let part = |i: usize| match i / 24 {
        0 => Some(Part::Train),
        1 if i < 36 => Some(Part::Valid),
        1 => Some(Part::Train),
        _ => Some(Part::Test),
    };
    let labels = Labels::classes((0..n).map(|i| class(i) as u32).collect());
    Dataset::new("clouds", (0..views).map(modality).collect())
        .unwrap()
        .with_labels(labels)
        .unwrap()
        .with_split("", (0..n).map(part).collect())
        .unwrap()
}

pub(crate) fn small(sets: &[&str]) -> Config {
    let mut config = Config::default();
    let base = [
        "dst_feature_dim_nheads=12,3",
        "nlevels=1",
        "num_prototypes=3",
        "batch_size=10",
    ];
    for set in base.iter().chain(&["num_epochs=4"]).chain(sets) {
        config.set(set).unwrap();
    }
    config
}
