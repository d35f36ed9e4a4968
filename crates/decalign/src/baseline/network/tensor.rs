//! Tensor fusion (Zadeh and others, 2017, "Tensor Fusion Network for Multimodal Sentiment Analysis").

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_data::Sequence;

use super::{Dense, Forward, Layers, Plan, pooled, with_one};
use crate::{Error, Result};

/// The outer product of `[h_m; 1]` over all modalities, then a perceptron with two hidden layers.
pub(super) struct TensorFusion {
    embeddings: Vec<Dense>,
    fused: [Dense; 2],
    head: Dense,
    dropout: f64,
}

/// Cells that the outer product may have.
const CELLS: usize = 20_000;

/// Features a modality, at most.
const WIDEST: usize = 16;

impl TensorFusion {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let count = plan.modalities.len() as u32;
        let fits = |width: &usize| (width + 1).checked_pow(count).is_some_and(|n| n <= CELLS);
        let Some(embedding) = (1..=WIDEST).rev().find(fits) else {
            let message = format!(
                "tensor fusion of {count} modalities: the outer product has 2^{count} cells or more, \
                 above {CELLS}; name fewer modalities"
            );
            return Err(Error::unsupported(message));
        };
        let width = plan.settings.width;
        let cells = (embedding + 1).pow(count);
        let embed = |(name, inputs): &(String, usize)| {
            plan.dense(&format!("embed_{name}"), *inputs, embedding)
        };
        Ok(Self {
            embeddings: plan.modalities.iter().map(embed).collect::<Result<_>>()?,
            fused: [
                plan.dense("fused_0", cells, width)?,
                plan.dense("fused_1", width, width)?,
            ],
            head: plan.dense("head", width, plan.outputs)?,
            dropout: plan.settings.dropout,
        })
    }
}

impl Layers for TensorFusion {
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        let mut product: Option<Tensor> = None;
        for (i, (embed, sequence)) in self.embeddings.iter().zip(sequences).enumerate() {
            let mode = mode.child(i as u64);
            let h = with_one(&embed.hidden(&pooled(sequence)?, self.dropout, mode)?)?;
            product = Some(match product {
                None => h,
                Some(z) => z
                    .unsqueeze(2)?
                    .broadcast_mul(&h.unsqueeze(1)?)?
                    .flatten_from(1)?,
            });
        }
        let mut x = product.ok_or_else(|| Error::invalid("tensor fusion of no modality"))?;
        for (i, layer) in self.fused.iter().enumerate() {
            x = layer.hidden(&x, self.dropout, mode.child(100 + i as u64))?;
        }
        Ok(Forward::one(self.head.apply(&x)?))
    }
}
