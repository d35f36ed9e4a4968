#![allow(missing_docs, clippy::unwrap_used)]
use candle_core::{DType, Device};
use decalign::Dataset;
use decalign::config::Config;
use decalign::core::nn::Mode;
use decalign::core::random::Stream;
use decalign::model::DecAlign;
use decalign::objective::Objective;
use decalign::optim::{Adam, AdamSettings};
use std::time::Instant;
fn main() {
    let preset = std::env::args().nth(1).unwrap_or("mfeat".into());
    let mut config = Config::preset(&preset).unwrap();
    for s in std::env::args().skip(2) {
        config.set(&s).unwrap();
    }
    let data = Dataset::mfeat()
        .unwrap()
        .select(config.modalities.as_ref().unwrap())
        .unwrap();
    let r = config.resolve(&data).unwrap();
    let model = DecAlign::new(&r.model, 1, DType::F32, &Device::Cpu).unwrap();
    let objective = Objective::new(&r.objective, None);
    let mut adam = Adam::new(model.variables(), AdamSettings::new(0.005, 0.6)).unwrap();
    let rows: Vec<usize> = (0..32).map(|i| i * 37).collect();
    let mut t = [0.0f64; 6];
    for i in 0..60 {
        let s = Instant::now();
        let b = data.batch(&rows, DType::F32, &Device::Cpu).unwrap();
        t[0] += s.elapsed().as_secs_f64();
        let s = Instant::now();
        let o0 = model
            .forward(&b.sequences, false, Mode::Training(Stream::new(1, i)))
            .unwrap();
        t[1] += s.elapsed().as_secs_f64();
        drop(o0);
        let s = Instant::now();
        let o = model
            .forward(&b.sequences, true, Mode::Training(Stream::new(1, i)))
            .unwrap();
        t[2] += s.elapsed().as_secs_f64();
        let s = Instant::now();
        let l = objective.losses(&o, b.labels.as_ref().unwrap()).unwrap();
        let _ = l.values().unwrap();
        t[3] += s.elapsed().as_secs_f64();
        let s = Instant::now();
        let g = l.total.backward().unwrap();
        t[4] += s.elapsed().as_secs_f64();
        let s = Instant::now();
        adam.step(&g, |_| 1e-3).unwrap();
        t[5] += s.elapsed().as_secs_f64();
    }
    for (n, v) in [
        "batch",
        "forward without alignment",
        "forward",
        "losses",
        "backward",
        "adam",
    ]
    .iter()
    .zip(t)
    {
        println!("{n:30} {:.3} ms", v / 60.0 * 1e3);
    }
}
