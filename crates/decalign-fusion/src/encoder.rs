//! Stacks of layers over one modality, and over all of them.

use candle_core::Tensor;
use decalign_core::nn::{Mode, Parameters};
use decalign_core::{Error, Result};

use crate::layer::{Context, EncoderLayer, LayerSettings};
use crate::op::context::project_context;

/// A transformer encoder whose queries may attend to another sequence.
///
/// Inputs and context are multiplied by sqrt(d) and dropped out, keys and values separately; the
/// context is the same at every layer.
#[derive(Clone, Debug)]
pub struct Encoder {
    layers: Vec<EncoderLayer>,
    width: usize,
    embed_dropout: f64,
}

impl Encoder {
    /// `layers` layers, parameters named `layers.N.*`.
    ///
    /// # Errors
    /// When the settings do not fit each other.
    pub fn new(
        parameters: &Parameters,
        layers: usize,
        settings: LayerSettings,
        embed_dropout: f64,
    ) -> Result<Self> {
        let layers = (0..layers)
            .map(|i| EncoderLayer::new(&parameters.scope("layers").scope(i), settings))
            .collect::<Result<_>>()?;
        Ok(Self {
            layers,
            width: settings.width,
            embed_dropout,
        })
    }

    /// Attends from `x` to `context`, at every layer.
    ///
    /// # Shapes
    /// `x` (B, L, d), `context` (B, S, d), `context_mask` (B, S), 0 where a step does not exist;
    /// the result is (B, L, d).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn cross(
        &self,
        x: &Tensor,
        context: &Tensor,
        context_mask: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        let scale = (self.width as f64).sqrt();
        let drop = |x: &Tensor, i: u64| mode.child(i).dropout(x, self.embed_dropout);
        let mut x = drop(&(x * scale)?, 0)?;
        let context = (context * scale)?;
        let (keys, values) = (drop(&context, 1)?, drop(&context, 2)?);
        let projections = self
            .layers
            .iter()
            .map(|layer| layer.attention().projection());
        // The context is that of every layer.
        let contexts = project_context(&keys, &values, &projections.collect::<Vec<_>>())?;
        for (i, (layer, context)) in self.layers.iter().zip(&contexts).enumerate() {
            let (context, mode) = (Context::Projected(context), mode.child(3 + i as u64));
            x = layer.forward(&x, context, context_mask, mode)?;
        }
        Ok(x)
    }

    /// Attends from `x` to itself, each layer to its own input; with `causal` no step sees a later
    /// one.
    ///
    /// # Shapes
    /// `x` (B, L, d), `mask` (B, L); the result is (B, L, d).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn self_attend(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        causal: bool,
        mode: Mode,
    ) -> Result<Tensor> {
        let scaled = (x * (self.width as f64).sqrt())?;
        let mut x = mode.child(0).dropout(&scaled, self.embed_dropout)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let mode = mode.child(3 + i as u64);
            x = layer.forward(&x, Context::Itself { causal }, mask, mode)?;
        }
        Ok(x)
    }
}

/// One modality's sequence, and which of its steps exist.
#[derive(Clone, Debug)]
pub struct Stream {
    /// (B, T, d).
    pub features: Tensor,
    /// (B, T), 0 where a step does not exist; `None` when all do.
    pub mask: Option<Tensor>,
}

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
        streams: &[Option<Stream>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Vec<Option<Tensor>>> {
        if streams.len() != self.encoders.len() {
            let remedy = format!("must be {}, one an encoder", self.encoders.len());
            return Err(Error::value("streams", streams.len(), remedy));
        }
        (0..streams.len())
            .map(|i| self.encode(i, streams, attention, mode))
            .collect()
    }

    /// Encodes stream number `i` alone, see [`CrossModalEncoder::forward`].
    ///
    /// # Errors
    /// As [`CrossModalEncoder::forward`].
    pub fn encode(
        &self,
        i: usize,
        streams: &[Option<Stream>],
        attention: Attention,
        mode: Mode,
    ) -> Result<Option<Tensor>> {
        let (Some(encoder), Some(Some(stream))) = (self.encoders.get(i), streams.get(i)) else {
            return Ok(None);
        };
        let mode = mode.child(i as u64);
        let others = streams.iter().enumerate().filter(|(j, _)| *j != i);
        let others: Vec<&Stream> = others.filter_map(|(_, s)| s.as_ref()).collect();
        let (x, mask) = (&stream.features, stream.mask.as_ref());
        let encoded = match attention {
            Attention::Cross if !others.is_empty() => {
                let (context, mask) = concatenate(&others)?;
                encoder.cross(x, &context, mask.as_ref(), mode)?
            }
            Attention::Cross => encoder.self_attend(x, mask, true, mode)?,
            Attention::SelfOnly { causal } => encoder.self_attend(x, mask, causal, mode)?,
        };
        Ok(Some(encoded))
    }
}

/// Features and masks one after the other along time.
fn concatenate(streams: &[&Stream]) -> Result<(Tensor, Option<Tensor>)> {
    let features: Vec<&Tensor> = streams.iter().map(|s| &s.features).collect();
    let context = Tensor::cat(&features, 1)?;
    if streams.iter().all(|s| s.mask.is_none()) {
        return Ok((context, None));
    }
    let masks = streams
        .iter()
        .map(|s| match &s.mask {
            Some(mask) => Ok(mask.to_dtype(context.dtype())?),
            None => {
                let (b, t, _) = s.features.dims3()?;
                Ok(Tensor::ones((b, t), context.dtype(), context.device())?)
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((context, Some(Tensor::cat(&masks, 1)?)))
}
