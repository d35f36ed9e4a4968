//! The forward pass of DecAlign.

use candle_core::Tensor;
use decalign_core::nn::{Mode, concatenate, sum_on_device};
use decalign_core::op::parallel;
use decalign_core::profile::phase;
use decalign_data::Sequence;
use decalign_decouple::{Decoupled, cosine_squared};
use decalign_fusion::mean_pool;

use super::alignment::nothing;
use super::encoder::{EncodeContext, Encoded};
use super::{Alignment, DecAlign, ModelOutput};
use crate::{Error, Result};

/// Numbers of the dropout streams of the model's layers, see [`Mode::child`].
mod place {
    pub(super) const INPUT: u64 = 0;
    pub(super) const FUSION: u64 = 1;
    pub(super) const DISTRIBUTION: u64 = 2;
    pub(super) const OUTPUT: u64 = 3;
    pub(super) const TEXT: u64 = 4;
}

impl DecAlign {
    /// Runs the model on one sequence a modality, in the order of the configuration.
    ///
    /// The alignment losses are computed when `align` is true: training needs them, prediction
    /// does not.
    ///
    /// # Shapes
    /// Features (B, T_m, D_m) with T_m at least the modality's kernel size; of token text (B, 3, T), see
    /// [`Tokens::from_rows`](decalign_text::Tokens::from_rows).
    ///
    /// # Errors
    /// When shapes do not fit the configuration, or a batch is too small for the alignment.
    pub fn forward(&self, sequences: &[Sequence], align: bool, mode: Mode) -> Result<ModelOutput> {
        if sequences.len() != self.encoders.len() {
            return Err(Error::invalid(format!(
                "the model takes {} modalities, the batch has {}",
                self.encoders.len(),
                sequences.len()
            )));
        }
        let mut parts = Vec::new();
        let mut masks = Vec::new();
        let mut text = None;
        for (i, sequence) in sequences.iter().enumerate() {
            let encoded = self.encode(i, sequence, mode)?;
            parts.push(phase("decoupling", || self.decouple(i, encoded.features))?);
            masks.push(encoded.mask);
            text = text.or(encoded.text);
        }
        let pool = |x: &Tensor, i: usize| mean_pool(x, masks[i].as_ref());
        let common = parts
            .iter()
            .enumerate()
            .map(|(i, part)| pool(&part.common, i));
        let common: Vec<Tensor> = common.collect::<decalign_core::Result<_>>()?;
        let active = self.active();
        let fusion = mode.child(place::FUSION);
        let mut branches = self.fusion_branches(&active, &parts, &masks, fusion)?;
        let pieces = branches.len() / active.len().max(1);
        if align {
            let unique = active.iter().map(|i| pool(&parts[*i].unique, *i));
            branches.push(self.heterogeneous_branch(unique.collect::<decalign_core::Result<_>>()?));
            let mode = mode.child(place::DISTRIBUTION);
            branches.push(self.homogeneous_branch(&active, &common, mode));
        }
        let mut done = parallel(branches)?.into_iter();
        let mut hidden = vec![None; parts.len()];
        for i in &active {
            let pooled: Vec<Tensor> = done.by_ref().take(pieces).flatten().collect();
            hidden[*i] = Some(Tensor::cat(&pooled, 0)?);
        }
        let representation = represent(&hidden, &common)?;
        let dropped = mode
            .child(place::OUTPUT)
            .dropout(&representation, self.config.output_dropout)?;
        let prediction = self.head.apply(&dropped)?;
        let (mut alignment, mut distribution) = (None, Vec::new());
        if let (Some(heterogeneous), Some(mut homogeneous)) = (done.next(), done.next()) {
            distribution = homogeneous.split_off(1);
            alignment = Some(Alignment {
                decoupling: phase("decoupling", || self.decoupling_loss(&active, &parts))?,
                heterogeneous: heterogeneous[0].clone(),
                homogeneous: homogeneous[0].clone(),
            });
        }
        Ok(ModelOutput {
            text,
            prediction,
            representation,
            alignment,
            parts,
            distribution,
        })
    }

    /// Encodes the sequences of modality `i`.
    pub(super) fn encode(&self, i: usize, sequence: &Sequence, mode: Mode) -> Result<Encoded> {
        let context = EncodeContext {
            config: &self.config,
            mode: mode.child(place::INPUT).child(i as u64),
            text: mode.child(place::TEXT),
        };
        self.encoders[i].encode(sequence, &context)
    }

    /// The parts of modality `i`; both are its features when decoupling is left out.
    pub(super) fn decouple(&self, i: usize, x: Tensor) -> decalign_core::Result<Decoupled> {
        match &self.decoupler {
            Some(decoupler) => decoupler.forward(i, &x),
            None => Ok(Decoupled {
                unique: x.clone(),
                common: x,
            }),
        }
    }

    /// `L_dec`: mean squared cosine between the parts of active modalities.
    fn decoupling_loss(
        &self,
        active: &[usize],
        parts: &[Decoupled],
    ) -> decalign_core::Result<Tensor> {
        if self.decoupler.is_none() {
            return nothing(&parts[0].unique);
        }
        let angle = |i: &usize| cosine_squared(&parts[*i].unique, &parts[*i].common);
        let angles: Vec<Tensor> = active
            .iter()
            .map(angle)
            .collect::<decalign_core::Result<_>>()?;
        let share = 1.0 / angles.len() as f64;
        let terms: Vec<(Tensor, f64)> = angles.iter().map(|x| (x.clone(), share)).collect();
        match sum_on_device(&terms)? {
            Some(sum) => Ok(sum),
            None => Ok(Tensor::stack(&angles, 0)?.mean(0)?),
        }
    }

    /// The modalities that take part.
    pub(super) fn active(&self) -> Vec<usize> {
        let modalities = &self.config.modalities;
        (0..modalities.len())
            .filter(|i| modalities[*i].active)
            .collect()
    }
}

/// `[h_1, ..., h_M, pool(c_1), ..., pool(c_M)]`, zeros for modalities that are not active.
fn represent(hidden: &[Option<Tensor>], common: &[Tensor]) -> Result<Tensor> {
    let mut columns = Vec::with_capacity(2 * hidden.len());
    for (h, c) in hidden.iter().zip(common) {
        columns.push(match h {
            Some(h) => h.clone(),
            None => c.zeros_like()?.detach(),
        });
    }
    for (h, c) in hidden.iter().zip(common) {
        columns.push(match h {
            Some(_) => c.clone(),
            None => c.zeros_like()?.detach(),
        });
    }
    let columns: Vec<&Tensor> = columns.iter().collect();
    Ok(concatenate(&columns, 1.0, &[(0.0, Mode::Inference)])?.swap_remove(0))
}
