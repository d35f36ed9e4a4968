//! All modalities, each attending to the others.

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_core::{Error, Result};

use crate::encoder::Encoder;
use crate::mask::AttentionMask;
use crate::masked_sequence::MaskedSequence;
use crate::presence::Presence;

/// How the modalities attend to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Each to all the others, concatenated along time (Tsai and others, 2019, in one pass).
    Cross,
    /// Each to itself.
    SelfOnly {
        /// No step sees a later one.
        causal: bool,
    },
}

/// One [`Encoder`] a modality, each attending to all the others.
#[derive(Clone, Debug)]
pub struct CrossModalEncoder {
    encoders: Vec<Encoder>,
}

impl CrossModalEncoder {
    /// From one encoder a modality.
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

    /// Encodes the streams that are there; `None` stands for a modality that is not active.
    ///
    /// With [`Attention::Cross`] and a single active stream, that one attends to itself causally,
    /// as the release does.
    ///
    /// # Shapes
    /// One entry an encoder, (B, T_m, d) each; the results have the same shapes.
    ///
    /// # Errors
    /// When the number of streams differs from that of the encoders, or shapes do not fit.
    pub fn forward(
        &self,
        streams: &[Option<MaskedSequence>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Vec<Option<Tensor>>> {
        (0..streams.len())
            .map(|i| self.encode(i, streams, attention, mode))
            .collect()
    }

    /// [`CrossModalEncoder::forward`] of samples some of which lack modalities: of what a sample lacks nothing is
    /// attended to, and its result is zeros. Nothing that such a sample has there reaches a gradient.
    ///
    /// # Shapes
    /// As there.
    ///
    /// # Errors
    /// As there, and when the presence is of another batch or number of modalities.
    pub fn forward_present(
        &self,
        streams: &[Option<MaskedSequence>],
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
        let limit = |(m, stream): (usize, &Option<MaskedSequence>)| {
            let stream = stream.as_ref().map(|s| presence.limit(m, s));
            stream.transpose()
        };
        let limited = streams.iter().enumerate().map(limit);
        let limited = limited.collect::<Result<Vec<_>>>()?;
        let encoded = self.forward(&limited, attention, mode)?;
        let keep = |(m, x): (usize, Option<Tensor>)| x.map(|x| presence.keep(m, &x)).transpose();
        encoded.into_iter().enumerate().map(keep).collect()
    }

    /// Encodes stream number `i` alone, see [`CrossModalEncoder::forward`].
    ///
    /// # Errors
    /// As [`CrossModalEncoder::forward`].
    pub fn encode(
        &self,
        i: usize,
        streams: &[Option<MaskedSequence>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Option<Tensor>> {
        let Some((encoder, x, others)) = self.parts(i, streams)? else {
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
    /// Weights are (B, heads, T_i, S), S being the number of steps attended to.
    ///
    /// # Errors
    /// As [`CrossModalEncoder::forward`].
    pub fn encode_with_maps(
        &self,
        i: usize,
        streams: &[Option<MaskedSequence>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Option<(Tensor, Vec<Tensor>)>> {
        let Some((encoder, x, others)) = self.parts(i, streams)? else {
            return Ok(None);
        };
        let mode = mode.child(i as u64);
        match self_mask(attention, &others) {
            None => encoder.cross_with_maps(x, &others, mode).map(Some),
            Some(mask) => encoder.self_attend_with_maps(x, mask, mode).map(Some),
        }
    }

    /// The encoder of stream `i`, that stream, and all the others.
    #[allow(clippy::type_complexity)]
    fn parts<'a>(
        &'a self,
        i: usize,
        streams: &'a [Option<MaskedSequence>],
    ) -> Result<Option<(&'a Encoder, &'a MaskedSequence, Vec<MaskedSequence>)>> {
        if streams.len() != self.encoders.len() {
            let remedy = format!("must be {}, one an encoder", self.encoders.len());
            return Err(Error::value("streams", streams.len(), remedy));
        }
        let (Some(encoder), Some(Some(stream))) = (self.encoders.get(i), streams.get(i)) else {
            return Ok(None);
        };
        let others = streams.iter().enumerate().filter(|(j, _)| *j != i);
        let others = others.filter_map(|(_, s)| s.clone()).collect();
        Ok(Some((encoder, stream, others)))
    }
}

/// How a stream attends to itself; `None` if it attends to the others.
fn self_mask<'a>(attention: Attention, others: &[MaskedSequence]) -> Option<AttentionMask<'a>> {
    let causal = match attention {
        Attention::Cross if !others.is_empty() => return None,
        Attention::Cross => true,
        Attention::SelfOnly { causal } => causal,
    };
    Some(AttentionMask {
        causal,
        ..Default::default()
    })
}
