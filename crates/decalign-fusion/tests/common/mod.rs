//! What the tests share.

// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::Parameters;
use decalign_core::random::Stream as Random;
use decalign_core::{Result, agree};
use decalign_fusion::{Activation, Encoder, EncoderSettings, LayerSettings, Norm, Position};

pub(crate) fn normal(shape: &[usize], number: u64) -> Tensor {
    Random::new(5, number).normal_tensor(shape).unwrap()
}

/// A matrix of zeros and ones.
pub(crate) fn mask<const T: usize>(rows: &[[u8; T]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), T), &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
}

/// The largest difference; NaN if one is.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let apart = (wide(a) - wide(b)).unwrap().flatten_all().unwrap();
    let apart = apart.to_vec1::<f64>().unwrap().into_iter().map(f64::abs);
    apart.fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
}

pub(crate) type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// Holds two implementations equal, values and gradients.
pub(crate) fn same(inputs: &[Tensor], fused: Run, plain: Run) {
    agree(inputs, (1e-11, 1e-4), fused, plain).unwrap();
}

const POSITIONS: [Position; 4] = [
    Position::None,
    Position::Sinusoidal,
    Position::Learned { longest: 9 },
    Position::Rotary,
];

/// All variants of an encoder of width 4.
pub(crate) fn variants(dropout: f64) -> Vec<EncoderSettings> {
    let mut all = Vec::new();
    for norm in [Norm::Post, Norm::Pre] {
        for (activation, hidden) in [(Activation::Relu, 16), (Activation::Gelu, 6)] {
            for position in POSITIONS {
                let layer = LayerSettings::new(4, 2)
                    .hidden(hidden)
                    .norm(norm)
                    .activation(activation)
                    .attention_dropout(dropout)
                    .activation_dropout(dropout)
                    .residual_dropout(dropout);
                all.push(
                    EncoderSettings::new(2, layer)
                        .position(position)
                        .embed_dropout(dropout),
                );
            }
        }
    }
    all
}

pub(crate) fn plain(settings: EncoderSettings) -> Result<Encoder> {
    Encoder::new(&Parameters::new(3, DType::F64, &Device::Cpu), settings)
}

pub(crate) fn model() -> EncoderSettings {
    EncoderSettings::new(2, LayerSettings::new(4, 2))
}
