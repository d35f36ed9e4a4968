//! One encoder for each modality, attending to the others.

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_core::{Error, Result};

use crate::encoder::Encoder;
use crate::mask::AttentionMask;
use crate::masked_sequence::MaskedSequence;
use crate::presence::Presence;

/// To which sequences a modality attends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attention {
    /// All other modalities, concatenated along time (as Tsai and others, 2019, in one pass).
    Cross,
    /// Itself.
    SelfOnly {
        /// True if a step attends only to itself and earlier ones.
        causal: bool,
    },
}

/// One [`Encoder`] for each modality, attending to all the others.
#[derive(Clone, Debug)]
pub struct CrossModalEncoder {
    encoders: Vec<Encoder>,
}

impl CrossModalEncoder {
    /// From one encoder for each modality.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(encoders: Vec<Encoder>) -> Result<Self> {
        if encoders.is_empty() {
            return Err(Error::value(
                "encoders",
                0,
                "at least one modality is needed",
            ));
        }
        Ok(Self { encoders })
    }

    /// Encodes the active modalities; `None` is one that is not active.
    ///
    /// With [`Attention::Cross`] and a single active modality, it attends to itself causally, as in the public DecAlign code.
    ///
    /// # Shapes
    /// One entry an encoder, (B, T_m, d) each; the results have the same shapes.
    ///
    /// # Errors
    /// When the number of sequences differs from that of the encoders, or shapes do not fit.
    pub fn forward(
        &self,
        sequences: &[Option<MaskedSequence>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Vec<Option<Tensor>>> {
        (0..sequences.len())
            .map(|i| self.encode(i, sequences, attention, mode))
            .collect()
    }

    /// [`CrossModalEncoder::forward`] for samples that lack modalities: a missing modality is not attended to, its result is zeros, and
    /// its features reach no gradient.
    ///
    /// # Shapes
    /// As there.
    ///
    /// # Errors
    /// As there, and when the presence is of another batch or number of modalities.
    pub fn forward_present(
        &self,
        sequences: &[Option<MaskedSequence>],
        presence: &Presence,
        attention: Attention,
        mode: Mode,
    ) -> Result<Vec<Option<Tensor>>> {
        if presence.modalities() != self.encoders.len() {
            let remedy = format!("must be {}, one an encoder", self.encoders.len());
            return Err(Error::value(
                "modalities of the presence",
                presence.modalities(),
                remedy,
            ));
        }
        let limit = |(m, sequence): (usize, &Option<MaskedSequence>)| {
            let sequence = sequence.as_ref().map(|s| presence.limit(m, s));
            sequence.transpose()
        };
        let limited = sequences.iter().enumerate().map(limit);
        let limited = limited.collect::<Result<Vec<_>>>()?;
        let encoded = self.forward(&limited, attention, mode)?;
        let keep = |(m, x): (usize, Option<Tensor>)| x.map(|x| presence.keep(m, &x)).transpose();
        encoded.into_iter().enumerate().map(keep).collect()
    }

    /// Encodes modality `i` alone, see [`CrossModalEncoder::forward`].
    ///
    /// # Errors
    /// As [`CrossModalEncoder::forward`].
    pub fn encode(
        &self,
        i: usize,
        sequences: &[Option<MaskedSequence>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Option<Tensor>> {
        let Some((encoder, x, others)) = self.parts(i, sequences)? else {
            return Ok(None);
        };
        let mode = mode.child(i as u64);
        match self_mask(attention, &others) {
            None => encoder.cross(x, &others, mode).map(Some),
            Some(mask) => encoder.self_attend(x, mask, mode).map(Some),
        }
    }

    /// [`CrossModalEncoder::encode`] and the attention weights of every layer.
    ///
    /// # Shapes
    /// Weights are (B, heads, T_i, S), S being the number of keys.
    ///
    /// # Errors
    /// As [`CrossModalEncoder::forward`].
    pub fn encode_with_maps(
        &self,
        i: usize,
        sequences: &[Option<MaskedSequence>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Option<(Tensor, Vec<Tensor>)>> {
        let Some((encoder, x, others)) = self.parts(i, sequences)? else {
            return Ok(None);
        };
        let mode = mode.child(i as u64);
        match self_mask(attention, &others) {
            None => encoder.cross_with_maps(x, &others, mode).map(Some),
            Some(mask) => encoder.self_attend_with_maps(x, mask, mode).map(Some),
        }
    }

    /// The encoder of modality `i`, its sequence, and all the others.
    #[allow(clippy::type_complexity)]
    fn parts<'a>(
        &'a self,
        i: usize,
        sequences: &'a [Option<MaskedSequence>],
    ) -> Result<Option<(&'a Encoder, &'a MaskedSequence, Vec<MaskedSequence>)>> {
        if sequences.len() != self.encoders.len() {
            let remedy = format!("must be {}, one an encoder", self.encoders.len());
            return Err(Error::value("sequences", sequences.len(), remedy));
        }
        let (Some(encoder), Some(Some(sequence))) = (self.encoders.get(i), sequences.get(i)) else {
            return Ok(None);
        };
        let others = sequences.iter().enumerate().filter(|(j, _)| *j != i);
        let others = others.filter_map(|(_, s)| s.clone()).collect();
        Ok(Some((encoder, sequence, others)))
    }
}

/// The mask of self-attention; `None` if the modality attends to the others.
fn self_mask<'a>(attention: Attention, others: &[MaskedSequence]) -> Option<AttentionMask<'a>> {
    let causal = match attention {
        Attention::Cross if !others.is_empty() => return None,
        Attention::Cross => true,
        Attention::SelfOnly { causal } => causal,
    };
    Some(AttentionMask::default().causal(causal))
}
