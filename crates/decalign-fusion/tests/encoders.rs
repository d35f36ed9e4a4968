//! Layers and encoders: gradients, and what may not change their results.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::random::Stream as Random;
use decalign_core::{Result, gradcheck};
use decalign_fusion::{
    Attention, AttentionMask, CrossModalEncoder, Encoder, EncoderSettings, LayerSettings,
    MaskedSequence, Position,
};

mod common;
use common::{distance, mask, model, normal, plain, variants};

fn encoder(names: &[&str], settings: EncoderSettings) -> Result<(Parameters, CrossModalEncoder)> {
    let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
    let encoders = names
        .iter()
        .map(|name| Encoder::new(&parameters.scope(name), settings))
        .collect::<Result<_>>()?;
    Ok((parameters, CrossModalEncoder::new(encoders)?))
}

fn streams(x: &[Tensor]) -> Vec<Option<MaskedSequence>> {
    x.iter()
        .map(|x| Some(MaskedSequence::new(x.clone())))
        .collect()
}

fn causal() -> AttentionMask<'static> {
    AttentionMask::default().causal(true)
}

#[test]
fn every_variant_has_its_gradients() -> Result<()> {
    let x: Vec<Tensor> = (0..2).map(|i| normal(&[2, 2 + i, 4], i as u64)).collect();
    let there = mask(&[[1, 1, 0], [0, 1, 1]]);
    let mode = Mode::Training(Random::new(4, 4));
    for settings in variants(0.2) {
        let (parameters, encoder) = encoder(&["a", "b"], settings)?;
        let run = |x: &[Tensor], attention| {
            let masked = MaskedSequence::masked(x[1].clone(), there.clone());
            let streams = [Some(MaskedSequence::new(x[0].clone())), Some(masked)];
            let y = encoder.forward(&streams, attention, mode)?;
            Ok(y.into_iter().flatten().collect::<Vec<Tensor>>())
        };
        for attention in [Attention::Cross, Attention::SelfOnly { causal: true }] {
            // A rectifier's corner may lie within a step of the difference: seed 3 has none.
            gradcheck(&x, 1e-6, |x| run(x, attention))?;
        }
        // Every parameter has a gradient.
        let loss = run(&x, Attention::Cross)?;
        let loss = (loss[0].sqr()?.sum_all()? + loss[1].sqr()?.sum_all()?)?;
        let store = loss.backward()?;
        for (name, var) in parameters.named() {
            assert!(store.get(&var).is_some(), "{name} in {settings:?}");
        }
    }
    Ok(())
}

#[test]
fn gradients_of_parameters() -> Result<()> {
    let x = normal(&[2, 3, 4], 0);
    for settings in variants(0.0) {
        let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
        let encoder = Encoder::new(&parameters, settings)?;
        let run = || {
            encoder.cross(
                &MaskedSequence::new(x.clone()),
                &[MaskedSequence::new(x.clone())],
                Mode::Inference,
            )
        };
        let store = run()?.sin()?.sum_all()?.backward()?;
        for (name, var) in parameters.named() {
            let gradient = store.get(&var).unwrap().flatten_all()?.to_vec1::<f64>()?;
            let start = var.as_tensor().copy()?;
            let at = |h: f64| -> Result<f64> {
                let mut moved = start.flatten_all()?.to_vec1::<f64>()?;
                let middle = moved.len() / 2;
                moved[middle] += h;
                var.set(&Tensor::from_vec(moved, start.shape(), &Device::Cpu)?)?;
                Ok(run()?.sin()?.sum_all()?.to_scalar::<f64>()?)
            };
            let want = (at(1e-5)? - at(-1e-5)?) / 2e-5;
            let got = gradient[gradient.len() / 2];
            assert!(
                (got - want).abs() < 1e-6 * want.abs().max(1.0),
                "{name}: {got} {want} {settings:?}"
            );
            var.set(&start)?;
        }
    }
    Ok(())
}

#[test]
fn an_inactive_modality_is_neither_encoded_nor_attended_to() -> Result<()> {
    let x: Vec<Tensor> = (0..3).map(|i| normal(&[2, 3, 4], i)).collect();
    let (_, three) = encoder(&["a", "b", "c"], model())?;
    let (_, two) = encoder(&["a", "b"], model())?;
    let mut some = streams(&x);
    some[2] = None;
    let y = three.forward(&some, Attention::Cross, Mode::Inference)?;
    let z = two.forward(&streams(&x[..2]), Attention::Cross, Mode::Inference)?;
    assert!(y[2].is_none());
    // Parameters are drawn by name, so both encoders start alike.
    assert_eq!(
        distance(y[0].as_ref().unwrap(), z[0].as_ref().unwrap()),
        0.0
    );
    Ok(())
}

#[test]
fn padding_behind_a_mask_changes_nothing() -> Result<()> {
    let (a, b) = (normal(&[2, 3, 4], 0), normal(&[2, 5, 4], 1));
    // Padding behind, and in front: positions count what exists.
    for (start, row) in [(0, [1, 1, 1, 0, 0]), (2, [0, 0, 1, 1, 1])] {
        let there = mask(&[row, row]);
        for settings in variants(0.0) {
            let (_, encoder) = encoder(&["a", "b"], settings)?;
            let forward = |b: MaskedSequence| {
                let streams = [Some(MaskedSequence::new(a.clone())), Some(b)];
                encoder.forward(&streams, Attention::Cross, Mode::Inference)
            };
            let padded = forward(MaskedSequence::masked(b.clone(), there.clone()))?;
            let cut = forward(MaskedSequence::new(b.narrow(1, start, 3)?))?;
            let part = padded[1].as_ref().unwrap().narrow(1, start, 3)?;
            assert!(distance(padded[0].as_ref().unwrap(), cut[0].as_ref().unwrap()) < 1e-12);
            assert!(
                distance(&part, cut[1].as_ref().unwrap()) < 1e-12,
                "{settings:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_causal_encoder_does_not_see_the_future() -> Result<()> {
    let x = normal(&[2, 6, 4], 0);
    let later = normal(&[2, 2, 4], 1);
    let other = Tensor::cat(&[&x.narrow(1, 0, 4)?, &later], 1)?;
    for settings in variants(0.0) {
        let encoder = plain(settings)?;
        let run = |x: &Tensor| {
            encoder.self_attend(&MaskedSequence::new(x.clone()), causal(), Mode::Inference)
        };
        let (y, z) = (run(&x)?, run(&other)?);
        assert!(distance(&y.narrow(1, 0, 4)?, &z.narrow(1, 0, 4)?) < 1e-13);
        assert!(distance(&y.narrow(1, 4, 2)?, &z.narrow(1, 4, 2)?) > 1e-3);
    }
    Ok(())
}

#[test]
fn maps_come_from_every_layer() -> Result<()> {
    let (a, b, c) = (
        normal(&[2, 3, 4], 0),
        normal(&[2, 5, 4], 1),
        normal(&[2, 2, 4], 2),
    );
    for settings in variants(0.0) {
        let (_, encoder) = encoder(&["a", "b", "c"], settings)?;
        let there = mask(&[[1, 1, 0, 1, 1], [0; 5]]);
        let streams = [
            Some(MaskedSequence::new(a.clone())),
            Some(MaskedSequence::masked(b.clone(), there)),
            Some(MaskedSequence::new(c.clone())),
        ];
        for (attention, keys) in [
            (Attention::Cross, 7),
            (Attention::SelfOnly { causal: true }, 3),
        ] {
            let y = encoder
                .encode(0, &streams, attention, Mode::Inference)?
                .unwrap();
            let (z, maps) = encoder
                .encode_with_maps(0, &streams, attention, Mode::Inference)?
                .unwrap();
            assert_eq!(distance(&y, &z), 0.0);
            assert_eq!(maps.len(), 2);
            for map in maps {
                assert_eq!(map.dims(), [2, 2, 3, keys]);
                let sums = map.sum(3)?;
                assert!(distance(&sums, &sums.ones_like()?) < 1e-14);
                if keys == 7 {
                    // What is masked has no weight.
                    assert_eq!(map.narrow(3, 2, 1)?.sum_all()?.to_scalar::<f64>()?, 0.0);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn single_precision_follows_double() -> Result<()> {
    let x = normal(&[2, 7, 4], 0);
    for settings in variants(0.0) {
        let wide = plain(settings)?;
        let narrow = Encoder::new(&Parameters::new(3, DType::F32, &Device::Cpu), settings)?;
        let y = wide.self_attend(&MaskedSequence::new(x.clone()), causal(), Mode::Inference)?;
        let x = MaskedSequence::new(x.to_dtype(DType::F32)?);
        assert!(distance(&narrow.self_attend(&x, causal(), Mode::Inference)?, &y) < 2e-5);
    }
    Ok(())
}

#[test]
fn wrong_settings_and_input_are_named() -> Result<()> {
    let layer = LayerSettings::new(4, 2);
    let bad = |settings: EncoderSettings, word: &str| {
        let error = plain(settings).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let of = |layer| EncoderSettings::new(1, layer);
    bad(of(LayerSettings::new(4, 3)), "heads is 3");
    bad(of(LayerSettings::new(4, 0)), "heads is 0");
    bad(of(layer.hidden(0)), "feed-forward width");
    bad(of(layer.activation_dropout(1.0)), "activation dropout is 1");
    bad(of(layer).embed_dropout(-0.5), "embedding dropout is -0.5");
    let odd = of(LayerSettings::new(6, 2)).position(Position::Rotary);
    bad(odd, "width of a head is 3");
    let encoder = plain(of(layer))?;
    let run = |x: MaskedSequence, context: &[MaskedSequence]| {
        encoder
            .cross(&x, context, Mode::Inference)
            .unwrap_err()
            .to_string()
    };
    let x = MaskedSequence::new(normal(&[2, 3, 4], 0));
    assert!(run(x.clone(), &[]).contains("context"));
    assert!(
        run(
            MaskedSequence::new(normal(&[2, 3, 5], 0)),
            std::slice::from_ref(&x)
        )
        .contains("(B, T >= 1, 4)")
    );
    assert!(run(x.clone(), &[MaskedSequence::new(normal(&[2, 4], 0))]).contains("sequence"));
    assert!(
        run(
            x.clone(),
            &[MaskedSequence::masked(x.features.clone(), mask(&[[1, 1]]))]
        )
        .contains("mask")
    );
    assert!(!run(x.clone(), &[MaskedSequence::new(normal(&[3, 3, 4], 0))]).is_empty());
    let (_, two) = self::encoder(&["a", "b"], of(layer))?;
    let error = two
        .forward(&[Some(x)], Attention::Cross, Mode::Inference)
        .unwrap_err();
    assert!(error.to_string().contains("sequences is 1"), "{error}");
    assert!(CrossModalEncoder::new(Vec::new()).is_err());
    Ok(())
}

#[test]
fn threads_do_not_change_an_encoder() -> Result<()> {
    let layer = LayerSettings::new(32, 4)
        .attention_dropout(0.2)
        .residual_dropout(0.1);
    let x = Random::new(1, 1).normal_tensor((8, 30, 32))?;
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| -> Result<Tensor> {
            let encoder = plain(EncoderSettings::new(2, layer))?;
            let x = Var::from_tensor(&x)?;
            let stream = MaskedSequence::new(x.as_tensor().clone());
            let mode = Mode::Training(Random::new(1, 1));
            let y = encoder.cross(&stream, &[stream.clone(), stream.clone()], mode)?;
            Ok(y.sqr()?.sum_all()?.backward()?.get(&x).unwrap().clone())
        })
    };
    assert_eq!(distance(&run(1)?, &run(3)?), 0.0);
    Ok(())
}
