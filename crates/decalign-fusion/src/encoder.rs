//! The encoder of one modality: a stack of layers.

use candle_core::Tensor;
use decalign_core::nn::{Mode, Parameters, concatenate, layer_norm};
use decalign_core::{Error, Result};

use crate::layer::{Context, EncoderLayer, LayerCall, LayerSettings, Norm, norm_parameters};
use crate::mask::AttentionMask;
use crate::masked_sequence::MaskedSequence;
use crate::op::projection::project_context;
use crate::position::{Position, PositionalEmbedding};

/// The settings of an [`Encoder`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EncoderSettings {
    /// The number of layers.
    pub layers: usize,
    /// The settings of each layer.
    pub layer: LayerSettings,
    /// How the encoder knows the order of steps.
    pub position: Position,
    /// True if inputs are multiplied by sqrt(d) first.
    pub scaled: bool,
    /// Dropout of inputs.
    pub embed_dropout: f64,
}

impl EncoderSettings {
    /// The model's encoder without dropout: scaled inputs, no positions.
    pub fn new(layers: usize, layer: LayerSettings) -> Self {
        Self {
            layers,
            layer,
            position: Position::None,
            scaled: true,
            embed_dropout: 0.0,
        }
    }

    setters!(position: Position, scaled: bool, embed_dropout: f64);
}

/// A transformer encoder whose queries may attend to another sequence.
///
/// Inputs and context are multiplied by sqrt(d) if `scaled`, get their positions, and dropout (separately for keys and values). Every
/// layer attends to the same context. With [`Norm::Pre`] a last layer norm follows, `layer_norm.*`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::{Mode, Parameters};
/// use decalign_fusion::{Activation, Encoder, EncoderSettings, LayerSettings, Norm, Position, MaskedSequence};
///
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let layer = LayerSettings::new(8, 2).norm(Norm::Pre).activation(Activation::Gelu);
/// let settings = EncoderSettings::new(2, layer).position(Position::Rotary);
/// let encoder = Encoder::new(&parameters, settings)?;
/// let x = MaskedSequence::new(Tensor::ones((3, 5, 8), DType::F32, &Device::Cpu)?);
/// let y = encoder.self_attend(&x, Default::default(), Mode::Inference)?;
/// assert_eq!(y.dims(), [3, 5, 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    layers: Vec<EncoderLayer>,
    positions: PositionalEmbedding,
    last_norm: Option<[Tensor; 2]>,
    settings: EncoderSettings,
}

/// Receives the attention weights of every layer.
type Maps<'a> = Option<&'a mut Vec<Tensor>>;

impl Encoder {
    /// Parameters are named `layers.N.*`.
    ///
    /// # Errors
    /// When the settings do not fit each other.
    pub fn new(parameters: &Parameters, settings: EncoderSettings) -> Result<Self> {
        let layer = settings.layer;
        if settings.position == Position::Rotary
            && !(layer.width / layer.heads.max(1)).is_multiple_of(2)
        {
            let remedy = "must be even for rotary positions; change width or heads";
            return Err(Error::value(
                "width of a head",
                layer.width / layer.heads,
                remedy,
            ));
        }
        if !(0.0..1.0).contains(&settings.embed_dropout) {
            let p = settings.embed_dropout;
            return Err(Error::value("embedding dropout", p, "must lie in [0, 1)"));
        }
        let layers = (0..settings.layers)
            .map(|i| EncoderLayer::new(&parameters.scope("layers").scope(i), layer))
            .collect::<Result<_>>()?;
        let last_norm = match layer.norm {
            Norm::Post => None,
            Norm::Pre => Some(norm_parameters(parameters, "layer_norm", layer.width)?),
        };
        Ok(Self {
            layers,
            positions: PositionalEmbedding::new(parameters, settings.position, layer.width)?,
            last_norm,
            settings,
        })
    }

    /// Attends from `x` to the sequences of `context`, concatenated along time, at every layer.
    ///
    /// # Shapes
    /// `x` (B, L, d), each of `context` (B, S_i, d); the result is (B, L, d).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit, or there is no context.
    pub fn cross(
        &self,
        x: &MaskedSequence,
        context: &[MaskedSequence],
        mode: Mode,
    ) -> Result<Tensor> {
        self.cross_into(x, context, mode, None)
    }

    /// [`Encoder::cross`] and the attention weights of every layer.
    ///
    /// # Shapes
    /// As there; weights are (B, heads, L, S), S being the sum of S_i.
    ///
    /// # Errors
    /// As there.
    pub fn cross_with_maps(
        &self,
        x: &MaskedSequence,
        context: &[MaskedSequence],
        mode: Mode,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let mut maps = Vec::new();
        let y = self.cross_into(x, context, mode, Some(&mut maps))?;
        Ok((y, maps))
    }

    fn cross_into(
        &self,
        x: &MaskedSequence,
        context: &[MaskedSequence],
        mode: Mode,
        mut maps: Maps,
    ) -> Result<Tensor> {
        if context.is_empty() {
            let remedy = "at least one sequence to attend to is needed";
            return Err(Error::value("context", "empty", remedy));
        }
        let rotation = [x].into_iter().chain(context).map(|s| self.rotation(s));
        let rotation = rotation.collect::<Result<Vec<_>>>()?;
        let mask = MaskedSequence::joined_mask(context)?;
        let drop = |i: u64| (self.settings.embed_dropout, mode.child(i));
        let sources = self.embed(context, &[drop(1), drop(2)])?;
        let sources: [Tensor; 2] = [sources[0].clone(), sources[1].clone()];
        let mut y = self
            .embed(std::slice::from_ref(x), &[drop(0)])?
            .swap_remove(0);
        let projected = self.project(&sources)?;
        let rotation = joined(rotation, x.features.dim(0)?)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let context_of = match &projected {
                Some(projected) => Context::Projected(&projected[i]),
                None => Context::Sources(&sources),
            };
            let call = LayerCall {
                mask: AttentionMask::default().keys(mask.as_ref()),
                rotation: [rotation[0].as_ref(), rotation[1].as_ref()],
                mode: mode.child(3 + i as u64),
                maps: maps.as_deref_mut(),
            };
            y = layer.forward_with(&y, context_of, call)?;
        }
        self.finish(y)
    }

    /// Keys and values of every layer as one operation, unless a norm precedes them.
    fn project(&self, [keys, values]: &[Tensor; 2]) -> Result<Option<Vec<[Tensor; 2]>>> {
        if self.settings.layer.norm == Norm::Pre {
            return Ok(None);
        }
        let layers = self.layers.iter();
        let projections: Option<Vec<_>> = layers.map(|l| l.attention().projection()).collect();
        let projected = projections.map(|layers| project_context(keys, values, &layers));
        projected.transpose()
    }

    /// Attends from `x` to itself, each layer to its own input. The mask of `x` replaces that of the keys in `mask`.
    ///
    /// # Shapes
    /// `x` (B, L, d); the result is (B, L, d).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn self_attend(
        &self,
        x: &MaskedSequence,
        mask: AttentionMask,
        mode: Mode,
    ) -> Result<Tensor> {
        self.self_attend_into(x, mask, mode, None)
    }

    /// [`Encoder::self_attend`] and the attention weights of every layer.
    ///
    /// # Shapes
    /// As there; weights are (B, heads, L, L).
    ///
    /// # Errors
    /// As there.
    pub fn self_attend_with_maps(
        &self,
        x: &MaskedSequence,
        mask: AttentionMask,
        mode: Mode,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let mut maps = Vec::new();
        let y = self.self_attend_into(x, mask, mode, Some(&mut maps))?;
        Ok((y, maps))
    }

    fn self_attend_into(
        &self,
        x: &MaskedSequence,
        mask: AttentionMask,
        mode: Mode,
        mut maps: Maps,
    ) -> Result<Tensor> {
        let rotation = self.rotation(x)?;
        let drop = (self.settings.embed_dropout, mode.child(0));
        let mut y = self.embed(std::slice::from_ref(x), &[drop])?.swap_remove(0);
        for (i, layer) in self.layers.iter().enumerate() {
            let call = LayerCall {
                mask: mask.keys(x.mask.as_ref()),
                rotation: [rotation.as_ref(), rotation.as_ref()],
                mode: mode.child(3 + i as u64),
                maps: maps.as_deref_mut(),
            };
            y = layer.forward_with(&y, Context::Itself, call)?;
        }
        self.finish(y)
    }

    /// The input of the first layer: sequences concatenated along time, once for each of `drops`.
    fn embed(&self, sequences: &[MaskedSequence], drops: &[(f64, Mode)]) -> Result<Vec<Tensor>> {
        let width = self.settings.layer.width;
        sequences
            .iter()
            .try_for_each(|sequence| sequence.check(width))?;
        let scale = match self.settings.scaled {
            true => (width as f64).sqrt(),
            false => 1.0,
        };
        if self.settings.position == Position::None || self.settings.position == Position::Rotary {
            let features: Vec<&Tensor> = sequences.iter().map(|s| &s.features).collect();
            return concatenate(&features, scale, drops);
        }
        // Positions are added after scaling.
        let placed =
            |s: &MaskedSequence| self.positions.add(&(&s.features * scale)?, s.mask.as_ref());
        let placed = sequences.iter().map(placed).collect::<Result<Vec<_>>>()?;
        concatenate(&placed.iter().collect::<Vec<_>>(), 1.0, drops)
    }

    fn rotation(&self, sequence: &MaskedSequence) -> Result<Option<Tensor>> {
        sequence.check(self.settings.layer.width)?;
        let (x, mask) = (&sequence.features, sequence.mask.as_ref());
        self.positions.rotation(x, mask, self.settings.layer.heads)
    }

    fn finish(&self, x: Tensor) -> Result<Tensor> {
        match &self.last_norm {
            Some([weight, bias]) => layer_norm(&x, weight, bias, self.settings.layer.epsilon),
            None => Ok(x),
        }
    }
}

/// The angles of the queries, and of all sequences of keys concatenated along time.
fn joined(rotation: Vec<Option<Tensor>>, batch: usize) -> Result<[Option<Tensor>; 2]> {
    let Some(mut angles) = rotation.into_iter().collect::<Option<Vec<_>>>() else {
        return Ok([None, None]);
    };
    let queries = angles.remove(0);
    if angles.iter().any(|a| a.dims()[0] != angles[0].dims()[0]) {
        // A sequence with a mask has angles for each sample.
        for a in &mut angles {
            let (_, steps, half) = a.dims3()?;
            *a = a.broadcast_as((batch, steps, half))?.contiguous()?;
        }
    }
    Ok([Some(queries), Some(Tensor::cat(&angles, 1)?)])
}
