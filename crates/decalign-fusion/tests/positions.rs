//! Where steps stand in their sequence.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::Result;
use decalign_core::nn::Mode;
use decalign_fusion::{AttentionMask, EncoderSettings, LayerSettings, MaskedSequence, Position};

mod common;
use common::{distance, mask, model, normal, plain, variants};

#[test]
fn without_positions_steps_are_a_set_and_with_them_they_are_not() -> Result<()> {
    let x = normal(&[2, 5, 4], 0);
    let order = Tensor::new(&[3u32, 1, 4, 0, 2], &Device::Cpu)?;
    let turned = x.index_select(&order, 1)?;
    for settings in variants(0.0) {
        let encoder = plain(settings)?;
        let run = |x: &Tensor| {
            encoder.self_attend(
                &MaskedSequence::new(x.clone()),
                Default::default(),
                Mode::Inference,
            )
        };
        let apart = distance(&run(&x)?.index_select(&order, 1)?, &run(&turned)?);
        match settings.position {
            Position::None => assert!(apart < 1e-12),
            _ => assert!(apart > 1e-4, "{settings:?}"),
        }
    }
    Ok(())
}

#[test]
fn rotary_attention_sees_differences_of_positions() -> Result<()> {
    let layer = LayerSettings::new(4, 1);
    let settings = EncoderSettings::new(1, layer).position(Position::Rotary);
    // The same steps behind three others that are masked in one place only: positions shift by three.
    let encoder = plain(settings)?;
    let (x, front) = (normal(&[1, 4, 4], 0), normal(&[1, 3, 4], 1));
    let long = Tensor::cat(&[&front, &x], 1)?;
    let hidden = [
        f64::NEG_INFINITY,
        f64::NEG_INFINITY,
        f64::NEG_INFINITY,
        0.0,
        0.0,
        0.0,
        0.0,
    ];
    let hidden = Tensor::new(&hidden, &Device::Cpu)?;
    let mask = AttentionMask::default().bias(Some(&hidden));
    let shifted = encoder.self_attend(&MaskedSequence::new(long), mask, Mode::Inference)?;
    let y = encoder.self_attend(&MaskedSequence::new(x), Default::default(), Mode::Inference)?;
    assert!(distance(&shifted.narrow(1, 3, 4)?, &y) < 1e-12);
    Ok(())
}

#[test]
fn sines_and_cosines_are_those_of_the_paper() -> Result<()> {
    // No layers: what comes out is the input and its position.
    let settings = EncoderSettings::new(0, LayerSettings::new(6, 2))
        .position(Position::Sinusoidal)
        .scaled(false);
    let encoder = plain(settings)?;
    let x = MaskedSequence::new(Tensor::zeros((1, 50, 6), DType::F64, &Device::Cpu)?);
    let y = encoder
        .self_attend(&x, Default::default(), Mode::Inference)?
        .squeeze(0)?;
    for (t, row) in y.to_vec2::<f64>()?.iter().enumerate() {
        for i in 0..3 {
            let angle = t as f64 / 1e4f64.powf(2.0 * i as f64 / 6.0);
            assert!((row[2 * i] - angle.sin()).abs() < 1e-13);
            assert!((row[2 * i + 1] - angle.cos()).abs() < 1e-13);
        }
    }
    let masked = MaskedSequence::masked(x.features.narrow(1, 0, 3)?, mask(&[[0, 1, 1]]));
    let z = encoder
        .self_attend(&masked, Default::default(), Mode::Inference)?
        .squeeze(0)?;
    assert_eq!(distance(&z.narrow(0, 1, 2)?, &y.narrow(0, 0, 2)?), 0.0);
    assert_eq!(z.to_vec2::<f64>()?[0], [0.0; 6]);
    Ok(())
}

#[test]
fn learned_positions_end() -> Result<()> {
    let settings = model().position(Position::Learned { longest: 3 });
    let encoder = plain(settings)?;
    let run = |x: MaskedSequence| encoder.self_attend(&x, Default::default(), Mode::Inference);
    let error = run(MaskedSequence::new(normal(&[1, 4, 4], 0)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sequence length is 4") && error.contains("the 3 positions"),
        "{error}"
    );
    // Steps that exist count.
    run(MaskedSequence::masked(
        normal(&[1, 4, 4], 0),
        mask(&[[0, 1, 1, 1]]),
    ))?;
    let none = model().position(Position::Learned { longest: 0 });
    assert!(plain(none).is_err());
    Ok(())
}
