//! Low-rank fusion (Liu and others, 2018, "Efficient Low-rank Multimodal Fusion with
//! Modality-Specific Factors").

use candle_core::Tensor;
use decalign_core::nn::{Init, Mode, linear};
use decalign_data::Sequence;

use super::{Dense, Forward, Layers, Plan, pooled, with_one};
use crate::{Error, Result};

/// ```text
/// y = sum_r w_r (prod_m F_m^r [h_m; 1]) + b
/// ```
pub(super) struct LowRankFusion {
    embeddings: Vec<Dense>,
    /// (rank outputs, h + 1) each.
    factors: Vec<Tensor>,
    /// (1, rank, 1).
    weights: Tensor,
    bias: Tensor,
    dropout: f64,
}

impl LowRankFusion {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let (width, rank) = (plan.settings.width, plan.settings.rank);
        let init = |fan_in| Init::KaimingUniform { fan_in };
        let embed =
            |(name, inputs): &(String, usize)| plan.dense(&format!("embed_{name}"), *inputs, width);
        let factor = |(name, _): &(String, usize)| {
            let shape = (rank * plan.outputs, width + 1);
            plan.parameters
                .get(&format!("factor_{name}"), shape, init(width + 1))
        };
        let factors: decalign_core::Result<_> = plan.modalities.iter().map(factor).collect();
        Ok(Self {
            embeddings: plan.modalities.iter().map(embed).collect::<Result<_>>()?,
            factors: factors?,
            weights: plan.parameters.get("rank_weights", (1, rank, 1), init(1))?,
            bias: plan
                .parameters
                .get("bias", (1, plan.outputs), Init::Constant(0.0))?,
            dropout: plan.settings.dropout,
        })
    }
}

impl Layers for LowRankFusion {
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        let mut product: Option<Tensor> = None;
        let layers = self.embeddings.iter().zip(&self.factors);
        for (i, ((embed, factor), sequence)) in layers.zip(sequences).enumerate() {
            let mode = mode.child(i as u64);
            let h = with_one(&embed.hidden(&pooled(sequence)?, self.dropout, mode)?)?;
            let projected = linear(&h, factor, None)?;
            product = Some(match product {
                None => projected,
                Some(z) => (z * projected)?,
            });
        }
        let product = product.ok_or_else(|| Error::invalid("low-rank fusion of no modality"))?;
        let (rank, outputs) = (self.weights.dim(1)?, self.bias.dim(1)?);
        let ranks = product.reshape((product.dim(0)?, rank, outputs))?;
        let sum = ranks.broadcast_mul(&self.weights)?.sum(1)?;
        Ok(Forward::one(sum.broadcast_add(&self.bias)?))
    }
}
