//! The transformer layer.

use candle_core::Tensor;
use decalign_core::nn::{Init, Mode, Parameters, layer_norm};
use decalign_core::{Error, Result};

use crate::attention::{MultiHeadAttention, attention_weights};
use crate::feed_forward::{Activation, feed_forward};
use crate::mask::AttentionMask;
use crate::op::residual_norm::residual_norm;
use crate::op::rotary::rotate;

/// The position of the layer norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// After each residual sum, `norm(x + f(x))`, as in DecAlign (Vaswani and others, 2017).
    #[default]
    Post,
    /// Before each sub-layer, `x + f(norm(x))`: deep stacks train without warm-up (Xiong and others, 2020).
    Pre,
}

/// The settings of an [`EncoderLayer`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerSettings {
    /// Width d of the features.
    pub width: usize,
    /// The number of attention heads, which divides the width.
    pub heads: usize,
    /// Inner width of the feed-forward network.
    pub hidden: usize,
    /// The position of the layer norms.
    pub norm: Norm,
    /// Added to the variance by layer norms.
    pub epsilon: f64,
    /// The activation of the feed-forward network.
    pub activation: Activation,
    /// Dropout of attention weights.
    pub attention_dropout: f64,
    /// Dropout after the activation.
    pub activation_dropout: f64,
    /// Dropout before each residual connection.
    pub residual_dropout: f64,
}

impl LayerSettings {
    /// The layer of DecAlign without dropout: post-norm, an inner width of four times the width, ReLU.
    pub fn new(width: usize, heads: usize) -> Self {
        Self {
            width,
            heads,
            hidden: 4 * width,
            norm: Norm::Post,
            epsilon: 1e-5,
            activation: Activation::Relu,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            residual_dropout: 0.0,
        }
    }

    setters!(
        hidden: usize,
        norm: Norm,
        epsilon: f64,
        activation: Activation,
        attention_dropout: f64,
        activation_dropout: f64,
        residual_dropout: f64
    );

    fn check(&self) -> Result<()> {
        for (name, p) in [
            ("attention dropout", self.attention_dropout),
            ("activation dropout", self.activation_dropout),
            ("residual dropout", self.residual_dropout),
        ] {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::value(name, p, "must lie in [0, 1)"));
            }
        }
        match self.hidden {
            0 => Err(Error::value("feed-forward width", 0, "must be at least 1")),
            _ => Ok(()),
        }
    }
}

/// The parameters of an [`EncoderLayer`], weight and bias of each part.
#[derive(Clone, Debug)]
pub struct LayerParts {
    /// Attention.
    pub attention: MultiHeadAttention,
    /// The layer norm of attention, (d) both.
    pub attention_norm: [Tensor; 2],
    /// The first linear map of the feed-forward network, (hidden, d) and (hidden).
    pub expand: [Tensor; 2],
    /// Its second linear map, (d, hidden) and (d).
    pub contract: [Tensor; 2],
    /// Its layer norm, (d) both.
    pub final_norm: [Tensor; 2],
}

/// Attention, then a feed-forward network, each with dropout, residual connection and layer norm
/// (Vaswani and others, 2017, section 3.1):
///
/// ```text
/// post:  y = norm_1(x + attention(x, c)),          z = norm_2(y + feed_forward(y))
/// pre:   y = x + attention(norm_1(x), norm_1(c)),  z = y + feed_forward(norm_2(y))
/// ```
///
/// where the context c is x itself in self-attention.
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    parts: LayerParts,
    settings: LayerSettings,
}

/// The keys and values to which the queries of a layer attend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Context<'a> {
    /// The layer's own input.
    Itself,
    /// Keys and values after projection.
    Projected(&'a [Tensor; 2]),
    /// Sources of keys and values, which the layer normalises and projects.
    Sources(&'a [Tensor; 2]),
}

/// The other arguments of a layer.
#[derive(Debug)]
pub(crate) struct LayerCall<'a> {
    pub(crate) mask: AttentionMask<'a>,
    /// Rotary angles of queries and keys.
    pub(crate) rotation: [Option<&'a Tensor>; 2],
    pub(crate) mode: Mode,
    /// Receives the attention weights.
    pub(crate) maps: Option<&'a mut Vec<Tensor>>,
}

impl EncoderLayer {
    /// A layer with the parameter names of the public DecAlign code.
    ///
    /// # Errors
    /// When the settings do not fit each other.
    pub fn new(parameters: &Parameters, settings: LayerSettings) -> Result<Self> {
        let (d, hidden) = (settings.width, settings.hidden);
        let dense = |name: &str, inputs: usize, outputs: usize| -> Result<[Tensor; 2]> {
            let scope = parameters.scope(name);
            let init = Init::KaimingUniform { fan_in: inputs };
            Ok([
                scope.get("weight", (outputs, inputs), init)?,
                scope.get("bias", outputs, init)?,
            ])
        };
        settings.check()?;
        let (heads, dropout) = (settings.heads, settings.attention_dropout);
        Self::from_parts(
            LayerParts {
                attention: MultiHeadAttention::new(
                    &parameters.scope("self_attn"),
                    d,
                    heads,
                    dropout,
                )?,
                attention_norm: norm_parameters(parameters, "attn_layer_norm", d)?,
                expand: dense("fc1", d, hidden)?,
                contract: dense("fc2", hidden, d)?,
                final_norm: norm_parameters(parameters, "final_layer_norm", d)?,
            },
            settings,
        )
    }

    /// A layer of given parameters.
    ///
    /// # Errors
    /// When the settings or shapes do not fit each other.
    pub fn from_parts(parts: LayerParts, settings: LayerSettings) -> Result<Self> {
        settings.check()?;
        let (d, hidden) = (settings.width, settings.hidden);
        for (name, [weight, bias], shapes) in [
            ("attention norm", &parts.attention_norm, [vec![d], vec![d]]),
            ("expansion", &parts.expand, [vec![hidden, d], vec![hidden]]),
            ("contraction", &parts.contract, [vec![d, hidden], vec![d]]),
            ("final norm", &parts.final_norm, [vec![d], vec![d]]),
        ] {
            if weight.dims() != shapes[0] || bias.dims() != shapes[1] {
                let expected = format!("shapes {shapes:?}");
                return Err(Error::tensor(
                    name,
                    expected,
                    (weight.shape(), bias.shape()),
                ));
            }
        }
        Ok(Self { parts, settings })
    }

    /// Attends from every step of `x` to `x` itself.
    ///
    /// # Shapes
    /// `x` (B, T, d); the result has the same shape.
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask, mode: Mode) -> Result<Tensor> {
        let call = LayerCall {
            mask,
            rotation: [None, None],
            mode,
            maps: None,
        };
        self.forward_with(x, Context::Itself, call)
    }

    pub(crate) fn attention(&self) -> &MultiHeadAttention {
        &self.parts.attention
    }

    pub(crate) fn forward_with(
        &self,
        x: &Tensor,
        context: Context,
        mut call: LayerCall,
    ) -> Result<Tensor> {
        let (p, mode) = (self.settings.residual_dropout, call.mode);
        let activation = self.settings.activation;
        let drop = (self.settings.activation_dropout, mode.child(2));
        let parts = &self.parts;
        let feed = |x: &Tensor| feed_forward(x, &parts.expand, &parts.contract, activation, drop);
        match self.settings.norm {
            Norm::Post => {
                let attended = self.attend(x, context, &mut call)?;
                let x = self.residual_norm(&attended, x, &parts.attention_norm, mode.child(1))?;
                self.residual_norm(&feed(&x)?, &x, &parts.final_norm, mode.child(3))
            }
            Norm::Pre => {
                let normal = self.norm(x, &parts.attention_norm)?;
                let attended = self.attend(&normal, context, &mut call)?;
                let x = (x + mode.child(1).dropout(&attended, p)?)?;
                let out = feed(&self.norm(&x, &parts.final_norm)?)?;
                Ok((x + mode.child(3).dropout(&out, p)?)?)
            }
        }
    }

    fn residual_norm(
        &self,
        x: &Tensor,
        residual: &Tensor,
        [weight, bias]: &[Tensor; 2],
        mode: Mode,
    ) -> Result<Tensor> {
        let (p, epsilon) = (self.settings.residual_dropout, self.settings.epsilon);
        residual_norm(x, residual, weight, bias, epsilon, (p, mode))
    }

    fn norm(&self, x: &Tensor, [weight, bias]: &[Tensor; 2]) -> Result<Tensor> {
        layer_norm(x, weight, bias, self.settings.epsilon)
    }

    fn attend(&self, x: &Tensor, context: Context, call: &mut LayerCall) -> Result<Tensor> {
        let attention = &self.parts.attention;
        let [mut q, mut k, v] = match context {
            Context::Itself => attention.project(x, x, x)?,
            Context::Projected([k, v]) => [attention.project_queries(x)?, k.clone(), v.clone()],
            Context::Sources([keys, values]) => {
                let norm = &self.parts.attention_norm;
                attention.project(x, &self.norm(keys, norm)?, &self.norm(values, norm)?)?
            }
        };
        let heads = attention.heads();
        if let [Some(queries), Some(keys)] = call.rotation {
            (q, k) = (rotate(&q, heads, queries)?, rotate(&k, heads, keys)?);
        }
        if let Some(maps) = &mut call.maps {
            maps.push(attention_weights(
                &q.detach(),
                &k.detach(),
                heads,
                call.mask,
            )?);
        }
        attention.attend(&q, &k, &v, call.mask, call.mode.child(0))
    }
}

/// Weight and bias of a layer norm.
pub(crate) fn norm_parameters(
    parameters: &Parameters,
    name: &str,
    width: usize,
) -> Result<[Tensor; 2]> {
    let scope = parameters.scope(name);
    Ok([
        scope.get("weight", width, Init::Constant(1.0))?,
        scope.get("bias", width, Init::Constant(0.0))?,
    ])
}
