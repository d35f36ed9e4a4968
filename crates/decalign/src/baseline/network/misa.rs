//! Modality-invariant and -specific representations (Hazarika, Zimmermann and Poria, 2020, "MISA").

use candle_core::Tensor;
use decalign_core::nn::{Init, Mode, Parameters, layer_norm};
use decalign_data::Sequence;
use decalign_decouple::{
    Batch, CentralMomentDiscrepancy, Decoupled, Objectives, Orthogonality, PairwiseLoss, PartPairs,
    Reconstruction,
};
use decalign_fusion::{AttentionMask, Encoder, MaskedSequence};

use super::{Dense, Forward, Layers, Plan, pooled};
use crate::Result;

/// Weights of difference, similarity and reconstruction losses, the paper's for CMU-MOSI.
const WEIGHTS: [f64; 3] = [0.3, 1.0, 1.0];

/// Private and shared parts of every modality, kept apart and alike; one transformer layer over all
/// parts as tokens, then a perceptron.
pub(super) struct Misa {
    projections: Vec<(Dense, [Tensor; 2])>,
    private: Vec<Dense>,
    shared: Dense,
    objectives: Objectives,
    encoder: Encoder,
    hidden: Dense,
    head: Dense,
    dropout: f64,
}

impl Misa {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let settings = &plan.settings;
        let (d, count) = (settings.width, plan.modalities.len());
        let names: Vec<&String> = plan.modalities.iter().map(|(name, _)| name).collect();
        let mut projections = Vec::new();
        for (name, inputs) in &plan.modalities {
            let norm = scale_and_shift(&plan.parameters.scope(format!("norm_{name}")), d)?;
            projections.push((plan.dense(&format!("project_{name}"), *inputs, d)?, norm));
        }
        let private = names
            .iter()
            .map(|name| plan.dense(&format!("private_{name}"), d, d));
        let apart = PairwiseLoss::new(
            Orthogonality,
            &[PartPairs::UniqueCommon, PartPairs::UniqueUnique],
        )?;
        let alike = PairwiseLoss::new(
            CentralMomentDiscrepancy::new(5, 1.0)?,
            &[PartPairs::CommonCommon],
        )?;
        let whole = Reconstruction::new(plan.parameters, &names, d)?;
        Ok(Self {
            projections,
            private: private.collect::<Result<_>>()?,
            shared: plan.dense("shared", d, d)?,
            objectives: Objectives::new()
                .with(WEIGHTS[0], apart)?
                .with(WEIGHTS[1], alike)?
                .with(WEIGHTS[2], whole)?,
            encoder: plan.encoder("fusion", d, 1, 0.0)?,
            hidden: plan.dense("hidden", 2 * count * d, count * d)?,
            head: plan.dense("head", count * d, plan.outputs)?,
            dropout: settings.dropout,
        })
    }
}

impl Layers for Misa {
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        let (mut features, mut parts) = (Vec::new(), Vec::new());
        let layers = self.projections.iter().zip(&self.private);
        for (((projection, [scale, shift]), private), sequence) in layers.zip(sequences) {
            let x = projection.hidden(&pooled(sequence)?, 0.0, Mode::Inference)?;
            let x = layer_norm(&x, scale, shift, 1e-5)?;
            parts.push(Decoupled {
                unique: sigmoid(&private.apply(&x)?)?,
                common: sigmoid(&self.shared.apply(&x)?)?,
            });
            features.push(x);
        }
        // A single sample has no distribution to compare.
        let penalty = match (mode, features[0].dim(0)?) {
            (Mode::Training(_), 2..) => {
                let batch = Batch::new(&parts)?.with_features(&features)?;
                Some(self.objectives.evaluate(&batch)?.total)
            }
            _ => None,
        };
        let tokens = parts.iter().flat_map(|p| [&p.unique, &p.common]);
        let tokens = Tensor::stack(&tokens.collect::<Vec<_>>(), 1)?;
        let mixed = self.encoder.self_attend(
            &MaskedSequence::new(tokens),
            AttentionMask::default(),
            mode.child(0),
        )?;
        let mixed = mixed.flatten_from(1)?;
        let hidden = self.hidden.hidden(&mixed, self.dropout, mode.child(1))?;
        Ok(Forward {
            members: vec![self.head.apply(&hidden)?],
            penalty,
        })
    }
}

fn scale_and_shift(parameters: &Parameters, width: usize) -> Result<[Tensor; 2]> {
    Ok([
        parameters.get("weight", width, Init::Constant(1.0))?,
        parameters.get("bias", width, Init::Constant(0.0))?,
    ])
}

/// `1 / (1 + exp(-x))`, by way of tanh: no overflow.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((x * 0.5)?.tanh()?.affine(0.5, 0.5)?)
}
