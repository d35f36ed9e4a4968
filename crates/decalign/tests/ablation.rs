//! Parts of the method that are left out are gone, and nothing else is.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device};
use decalign::config::Config;
use decalign::core::nn::Mode;
use decalign::core::random::Stream;
use decalign::data::Sequence;
use decalign::model::{DecAlign, ModelOutput};
use decalign::objective::Objective;

const CPU: Device = Device::Cpu;

/// A model of three modalities without some parts, and a batch of eight.
fn model(without: &str) -> (DecAlign, Vec<Sequence>) {
    let mut config = Config::default();
    let sets = [
        "feature_dims=5,6,7",
        "dst_feature_dim_nheads=8,2",
        "nlevels=1",
        "num_prototypes=3",
        "batch_size=8",
    ];
    sets.iter().for_each(|set| config.set(set).unwrap());
    if !without.is_empty() {
        config.set(&format!("without={without}")).unwrap();
    }
    let resolved = config.resolve_alone().unwrap();
    let stream = Stream::new(4, 0);
    let sequence = |(i, d): (usize, &usize)| {
        Sequence::new(
            stream.child(i as u64).normal_tensor((8, 2, *d)).unwrap(),
            None,
        )
    };
    let sequences = [5, 6, 7].iter().enumerate().map(sequence).collect();
    (
        DecAlign::new(&resolved.model, 1, DType::F64, &CPU).unwrap(),
        sequences,
    )
}

/// The three alignment losses.
fn losses(without: &str) -> [f64; 3] {
    let (model, sequences) = model(without);
    let alignment = forward(&model, &sequences).alignment.unwrap();
    [
        alignment.decoupling,
        alignment.heterogeneous,
        alignment.homogeneous,
    ]
    .map(|loss| loss.to_scalar::<f64>().unwrap())
}

fn forward(model: &DecAlign, sequences: &[Sequence]) -> ModelOutput {
    model.forward(sequences, true, Mode::Inference).unwrap()
}

#[test]
fn each_part_takes_its_own_loss_with_it() {
    let [dec, hete, homo] = losses("");
    assert!(dec > 0.0 && homo > 0.0 && hete != 0.0);
    assert_eq!(losses("heterogeneous"), [dec, 0.0, homo]);
    assert_eq!(losses("homogeneous"), [dec, hete, 0.0]);
    assert_eq!(losses("contrastive"), [dec, hete, homo]);
    // The two halves of L_homo make the whole, and neither is empty.
    let (moments, mmd) = (losses("mmd")[2], losses("moments")[2]);
    assert!(moments > 0.0 && mmd > 0.0);
    assert!((moments + mmd - homo).abs() < 1e-12 * homo.abs());
    assert_eq!(losses("moments,mmd")[2], 0.0);
    // Without the transport the samples' way to the prototypes stays.
    let local = losses("prototype_ot")[1];
    assert!(local > 0.0 && local != hete);
}

#[test]
fn without_decoupling_both_parts_are_the_features() {
    let (model, sequences) = model("decoupling");
    let output = forward(&model, &sequences);
    let alignment = output.alignment.unwrap();
    assert_eq!(alignment.decoupling.to_scalar::<f64>().unwrap(), 0.0);
    for part in &output.parts {
        let gap = (&part.unique - &part.common).unwrap().abs().unwrap();
        assert_eq!(gap.sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
    }
    let names: Vec<String> = model
        .variables()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names.iter().all(|name| !name.starts_with("encoder_")),
        "{names:?}"
    );
}

#[test]
fn what_is_left_out_carries_no_gradient() {
    let (model, sequences) = model("homogeneous,contrastive");
    let mut config = Config::default();
    config.set("feature_dims=5,6,7").unwrap();
    config.set("ct_weight=0.5").unwrap();
    config.set("without=homogeneous,contrastive").unwrap();
    let objective = config.resolve_alone().unwrap().objective;
    let labels = Stream::new(4, 9).normal_tensor((8, 1)).unwrap();
    let output = forward(&model, &sequences);
    let objective = Objective::new(&objective, None);
    assert_eq!(objective.weight("contrastive"), Some(0.0));
    let losses = objective.losses(&output, &labels).unwrap();
    let gradients = losses.total.backward().unwrap();
    for (name, variable) in model.variables() {
        let reached = gradients.get(&variable).is_some();
        assert_eq!(reached, !name.starts_with("pde_"), "{name}");
    }
}

#[test]
fn parts_are_known_by_name() {
    let mut config = Config::default();
    config.set("without=mmd,prototype_ot").unwrap();
    let back = Config::from_json(&config.to_json().unwrap()).unwrap();
    assert_eq!(back.without, config.without);
    let error = config.set("without=ot").unwrap_err().to_string();
    assert!(
        error.contains("without") && error.contains("prototype_ot"),
        "{error}"
    );
}
