//! A training step in the emulator against the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use decalign::config::Config;
use decalign::core::device::{available as device_there, emulator};
use decalign::core::nn::Mode;
use decalign::core::op::Tape;
use decalign::core::random::Stream;
use decalign::model::DecAlign;
use decalign::objective::Objective;
use decalign_data::Sequence;

/// Loss, gradients by name, and stretches of Candle's operations on the tape.
type Step = (f64, BTreeMap<String, Vec<f64>>, usize);

/// One step of a small model of the preset's kind, in f64.
fn step(preset: &str, device: &Device) -> Step {
    let mut config = Config::preset(preset).unwrap();
    config.feature_dims = Some(vec![5, 3, 4]);
    config.use_bert = false;
    for change in [
        "dst_feature_dim_nheads=[6,2]",
        "nlevels=2",
        "pde_dim=5",
        "num_prototypes=3",
        "ot_num_iters=3",
    ] {
        config.set(change).unwrap();
    }
    let settings = config.resolve_alone().unwrap();
    let model = DecAlign::new(&settings.model, 1, DType::F64, device).unwrap();
    let sequences: Vec<Sequence> = [(7, 5), (6, 3), (8, 4)]
        .iter()
        .enumerate()
        .map(|(i, (steps, width))| {
            let x = Stream::new(2, i as u64)
                .normal_tensor((6, *steps, *width))
                .unwrap();
            Sequence::new(x.to_device(device).unwrap(), None)
        })
        .collect();
    let labels = match settings.model.outputs {
        1 => Tensor::new(&[-1.0, 2.0, 0.5, 2.0, -1.0, 3.0], device)
            .unwrap()
            .unsqueeze(1)
            .unwrap(),
        classes => Tensor::new(&[0u32, 1, 2, 0, 1, 2], device)
            .unwrap()
            .rem(classes),
    };
    let objective = Objective::new(&settings.objective, None);
    let tape = Tape::new();
    let loss = tape
        .run(|| -> decalign::Result<Tensor> {
            let mode = Mode::Training(Stream::new(3, 3));
            let output = model.forward(&sequences, true, mode)?;
            Ok(objective.losses(&output, &labels)?.total)
        })
        .unwrap();
    let gradients = tape.backward(&loss).unwrap();
    let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let of = |(name, var): (String, candle_core::Var)| Some((name, numbers(gradients.get(&var)?)));
    let all = model.variables().into_iter().filter_map(of).collect();
    (numbers(&loss)[0], all, tape.islands())
}

trait Rem {
    fn rem(&self, n: usize) -> Tensor;
}

impl Rem for Tensor {
    /// Classes below n.
    fn rem(&self, n: usize) -> Tensor {
        let classes = self
            .to_vec1::<u32>()
            .unwrap()
            .into_iter()
            .map(|c| c % n as u32);
        Tensor::from_iter(classes, self.device()).unwrap()
    }
}

fn same(got: &Step, want: &Step, tolerance: f64) {
    assert!((got.0 - want.0).abs() < tolerance, "{} {}", got.0, want.0);
    assert_eq!(
        got.1.keys().collect::<Vec<_>>(),
        want.1.keys().collect::<Vec<_>>()
    );
    for (name, want) in &want.1 {
        let most = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for (a, b) in got.1[name].iter().zip(want) {
            assert!((a - b).abs() < tolerance * most, "{name}: {a} {b}");
        }
    }
}

#[test]
fn a_step_is_that_of_the_cpu_and_leaves_nothing_to_candle() {
    for preset in ["mosi", "mosei", "iemocap"] {
        let want = step(preset, &Device::Cpu);
        if let Some(device) = device_there() {
            let got = step(preset, &device);
            same(&got, &want, 1e-8);
            assert_eq!(got.2, 0, "{preset}");
        }
        if emulator::available() {
            let got = emulator::emulated(4, || step(preset, &Device::Cpu));
            same(&got, &want, 1e-8);
            assert_eq!(got.2, 0, "{preset}");
        }
    }
}
