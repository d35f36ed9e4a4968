//! The post-norm transformer layer.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_core::nn::{Init, Mode, Parameters, linear, linear_relu_dropout};

use crate::attention::MultiHeadAttention;
use crate::op::residual_norm::residual_norm;

/// Sizes and dropout probabilities of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSettings {
    /// Width d of the features.
    pub width: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Dropout on attention weights.
    pub attention_dropout: f64,
    /// Dropout after the rectifier.
    pub relu_dropout: f64,
    /// Dropout before each residual connection.
    pub residual_dropout: f64,
}

/// Attention, then a feed-forward network of four times the width, each followed by dropout,
/// residual connection and layer norm (Vaswani and others, 2017, section 3.1).
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    attention: MultiHeadAttention,
    attention_norm: [Tensor; 2],
    expand: [Tensor; 2],
    contract: [Tensor; 2],
    final_norm: [Tensor; 2],
    settings: LayerSettings,
}

/// What the queries of a layer attend to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Context<'a> {
    /// The layer's own input; with `causal` no step sees a later one.
    Itself { causal: bool },
    /// Keys and values after projection.
    Projected(&'a [Tensor; 2]),
}

impl EncoderLayer {
    /// A layer whose parameters are named as the DecAlign release names them.
    ///
    /// # Errors
    /// When `heads` does not divide `width`.
    pub fn new(parameters: &Parameters, settings: LayerSettings) -> Result<Self> {
        let d = settings.width;
        let dense = |name: &str, inputs: usize, outputs: usize| -> Result<[Tensor; 2]> {
            let (scope, init) = (
                parameters.scope(name),
                Init::KaimingUniform { fan_in: inputs },
            );
            Ok([
                scope.get("weight", (outputs, inputs), init)?,
                scope.get("bias", outputs, init)?,
            ])
        };
        let norm = |name: &str| -> Result<[Tensor; 2]> {
            let scope = parameters.scope(name);
            Ok([
                scope.get("weight", d, Init::Constant(1.0))?,
                scope.get("bias", d, Init::Constant(0.0))?,
            ])
        };
        let (heads, dropout) = (settings.heads, settings.attention_dropout);
        Ok(Self {
            attention: MultiHeadAttention::new(&parameters.scope("self_attn"), d, heads, dropout)?,
            attention_norm: norm("attn_layer_norm")?,
            expand: dense("fc1", d, 4 * d)?,
            contract: dense("fc2", 4 * d, d)?,
            final_norm: norm("final_layer_norm")?,
            settings,
        })
    }

    pub(crate) fn attention(&self) -> &MultiHeadAttention {
        &self.attention
    }

    /// `mask`: which keys exist.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        context: Context,
        mask: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        let (settings, inner) = (&self.settings, mode.child(0));
        let seen = match context {
            Context::Itself { causal } => self.attention.forward(x, x, x, causal, mask, inner)?,
            Context::Projected(context) => self
                .attention
                .forward_projected(x, context, false, mask, inner)?,
        };
        let [weight, bias] = &self.attention_norm;
        let drop = (settings.residual_dropout, mode.child(1));
        let x = residual_norm(&seen, x, weight, bias, drop)?;
        let [weight, bias] = &self.expand;
        let drop = (settings.relu_dropout, mode.child(2));
        let hidden = linear_relu_dropout(&x, weight, Some(bias), drop)?;
        let out = linear(&hidden, &self.contract[0], Some(&self.contract[1]))?;
        let [weight, bias] = &self.final_norm;
        let drop = (settings.residual_dropout, mode.child(3));
        residual_norm(&out, &x, weight, bias, drop)
    }
}
