//! Cross-modal transformers (Tsai and others, 2019, "Multimodal Transformer for Unaligned
//! Multimodal Language Sequences").

use candle_core::{Device, Tensor};
use decalign_core::nn::Mode;
use decalign_data::Sequence;
use decalign_fusion::{AttentionMask, Encoder, MaskedSequence, mean_pool};

use super::{Dense, Forward, Layers, Plan};
use crate::Result;

/// A separate encoder for every ordered pair lets one modality attend to another; a second encoder attends over the
/// concatenated results of a modality, and their mean over steps is kept. Layers are post-norm, like all of this
/// project; the paper keeps the last step, which may be padding.
pub(super) struct Mult {
    projections: Vec<Dense>,
    /// `cross[i]`: encoders to modality i from every other modality, in order.
    cross: Vec<Vec<Encoder>>,
    memory: Vec<Encoder>,
    residual: [Dense; 2],
    head: Dense,
    width: usize,
    dropout: f64,
}

impl Mult {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let settings = &plan.settings;
        let (width, count) = (settings.width, plan.modalities.len());
        let encoder = |name: String, width: usize| -> Result<Encoder> {
            plan.encoder(&name, width, settings.layers, settings.dropout)
        };
        let names: Vec<&String> = plan.modalities.iter().map(|(name, _)| name).collect();
        let mut cross = Vec::new();
        for to in &names {
            let from = names.iter().filter(|from| *from != to);
            let row = from.map(|from| encoder(format!("cross_{to}_{from}"), width));
            cross.push(row.collect::<Result<_>>()?);
        }
        let gathered = width * (count - 1);
        let memory = names
            .iter()
            .map(|name| encoder(format!("memory_{name}"), gathered));
        let all = gathered * count;
        let project = |(name, inputs): &(String, usize)| {
            plan.dense(&format!("project_{name}"), *inputs, width)
        };
        Ok(Self {
            projections: plan.modalities.iter().map(project).collect::<Result<_>>()?,
            memory: memory.collect::<Result<_>>()?,
            cross,
            residual: [
                plan.dense("residual_0", all, all)?,
                plan.dense("residual_1", all, all)?,
            ],
            head: plan.dense("head", all, plan.outputs)?,
            width,
            dropout: settings.dropout,
        })
    }

    /// The pooled information of modality `i` from the others, (B, (M - 1) d).
    fn gather(&self, i: usize, x: &[Tensor], sequences: &[Sequence], mode: Mode) -> Result<Tensor> {
        let others = (0..x.len()).filter(|j| *j != i);
        let mut gathered = Vec::with_capacity(x.len() - 1);
        for (encoder, j) in self.cross[i].iter().zip(others) {
            let (to, from) = (
                stream(&x[i], None),
                stream(&x[j], sequences[j].mask.as_ref()),
            );
            gathered.push(encoder.cross(&to, &[from], mode.child(j as u64))?);
        }
        let gathered = Tensor::cat(&gathered, 2)?;
        let mask = sequences[i].mask.as_ref();
        let mode = mode.child(i as u64);
        let gathered = stream(&gathered, mask);
        let encoded = self.memory[i].self_attend(&gathered, AttentionMask::default(), mode)?;
        Ok(mean_pool(&encoded, mask)?)
    }
}

impl Layers for Mult {
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        let mut x = Vec::with_capacity(sequences.len());
        for (projection, sequence) in self.projections.iter().zip(sequences) {
            let projected = projection.apply(&sequence.features)?;
            let places = positions(projected.dim(1)?, self.width, projected.device())?;
            x.push(projected.broadcast_add(&places.to_dtype(projected.dtype())?)?);
        }
        let each = (0..x.len()).map(|i| self.gather(i, &x, sequences, mode.child(i as u64)));
        let gathered = Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 1)?;
        let mode = mode.child(1000);
        let hidden = self.residual[0].hidden(&gathered, self.dropout, mode)?;
        let x = (self.residual[1].apply(&hidden)? + gathered)?;
        Ok(Forward::one(self.head.apply(&x)?))
    }
}

fn stream(features: &Tensor, mask: Option<&Tensor>) -> MaskedSequence {
    MaskedSequence::masked(features.clone(), mask.cloned())
}

/// Sines and cosines of the steps (Vaswani and others, 2017, section 3.5), (1, steps, width),
/// divided by sqrt(d): an [`Encoder`] multiplies its input by that.
fn positions(steps: usize, width: usize, device: &Device) -> Result<Tensor> {
    let angle = |step: usize, i: usize| {
        let frequency = 10_000f64.powf(-((i / 2 * 2) as f64) / width as f64);
        let angle = step as f64 * frequency;
        if i.is_multiple_of(2) {
            angle.sin()
        } else {
            angle.cos()
        }
    };
    let all = (0..steps).flat_map(|step| (0..width).map(move |i| angle(step, i)));
    let scale = (width as f64).sqrt();
    let all: Vec<f32> = all.map(|v| (v / scale) as f32).collect();
    Ok(Tensor::from_vec(all, (1, steps, width), device)?)
}
