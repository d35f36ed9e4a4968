//! What the tests share.

// Each test program uses a part of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::Parameters;
use decalign_core::{Result, agree};
use decalign_fusion::{Activation, Encoder, EncoderSettings, LayerSettings, Norm, Position};

pub(crate) use decalign_testkit::{largest_difference as distance, normal, numbers};

/// A matrix of zeros and ones.
pub(crate) fn mask<const T: usize>(rows: &[[u8; T]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), T), &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
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
