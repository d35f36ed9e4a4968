//! BERT (Devlin and others, 2019).

use candle_core::{DType, Tensor};
use decalign_core::nn::{Init, Mode, Parameters, layer_norm};
use decalign_fusion::{
    Activation as Inner, AttentionMask, AttentionParts, EncoderLayer, LayerParts, LayerSettings,
    MultiHeadAttention,
};

use crate::config::{Activation, BertConfig};
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Which parts of a [`Bert`] are not trained. They have no gradient and need no memory for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freeze {
    /// All parts are trained.
    #[default]
    Nothing,
    /// The embeddings and this many layers from the input on are frozen.
    Layers(usize),
    /// Nothing is trained.
    Everything,
}

impl Freeze {
    fn embeddings(self) -> bool {
        self != Self::Nothing
    }

    fn layer(self, i: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Layers(n) => i < n,
            Self::Everything => true,
        }
    }
}

/// BERT without a head: the states of its last layer.
///
/// ```text
/// x = norm(word + position + segment),   x = layer(x) for each layer: post-norm, see decalign-fusion
/// ```
#[derive(Clone, Debug)]
pub struct Bert {
    words: Tensor,
    positions: Tensor,
    segments: Tensor,
    norm: [Tensor; 2],
    layers: Vec<EncoderLayer>,
    config: BertConfig,
}

impl Bert {
    /// A BERT with new parameters, named as by Hugging Face (`embeddings.word_embeddings.weight` and so on; those of the
    /// pooler exist because files have them).
    ///
    /// # Errors
    /// When the configuration is inconsistent, or more layers are to be frozen than exist.
    pub fn new(parameters: &Parameters, config: &BertConfig, freeze: Freeze) -> Result<Self> {
        let d = config.hidden_size;
        Self::build(
            parameters,
            config,
            freeze,
            Init::KaimingUniform { fan_in: d },
        )
    }

    /// A BERT whose weights are zeros, to be [loaded](crate::load_weights).
    pub(crate) fn blank(
        parameters: &Parameters,
        config: &BertConfig,
        freeze: Freeze,
    ) -> Result<Self> {
        Self::build(parameters, config, freeze, Init::Constant(0.0))
    }

    fn build(
        parameters: &Parameters,
        config: &BertConfig,
        freeze: Freeze,
        init: Init,
    ) -> Result<Self> {
        config.check()?;
        if let Freeze::Layers(n) = freeze
            && n > config.num_hidden_layers
        {
            let remedy = format!("the encoder has {}", config.num_hidden_layers);
            return Err(Error::value("the number of frozen layers", n, remedy));
        }
        let d = config.hidden_size;
        let embeddings = parameters.scope("embeddings");
        let source = ParameterSource {
            init,
            frozen: freeze.embeddings(),
        };
        let table =
            |name: &str, rows: usize| source.get(&embeddings.scope(name), "weight", &[rows, d]);
        let bert = Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            segments: table("token_type_embeddings", config.type_vocab_size)?,
            norm: source.norm(&embeddings.scope("LayerNorm"), d)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| {
                    let frozen = freeze.layer(i);
                    let scope = parameters.scope("encoder").scope("layer").scope(i);
                    ParameterSource { init, frozen }.layer(&scope, config)
                })
                .collect::<Result<_>>()?,
            config: config.clone(),
        };
        source.dense(&parameters.scope("pooler").scope("dense"), d, d)?;
        Ok(bert)
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The states of the last layer.
    ///
    /// Padding tokens are not attended to; their own states have no meaning.
    ///
    /// # Shapes
    /// Tokens (B, T); the result is (B, T, d).
    ///
    /// # Errors
    /// When a text is longer than the positions, or a token or segment is unknown to the model.
    pub fn forward(&self, tokens: &Tokens, mode: Mode) -> Result<Tensor> {
        let (batch, steps) = tokens.dims()?;
        let config = &self.config;
        if steps > config.max_position_embeddings {
            let most = config.max_position_embeddings;
            let remedy = format!("more than the {most} that the encoder takes; cut the texts");
            return Err(Error::value(
                "the longest text",
                format!("{steps} tokens"),
                remedy,
            ));
        }
        let d = config.hidden_size;
        let words = look_up(&self.words, &tokens.ids, "token")?;
        let words = self.without_padding(words, &tokens.ids)?;
        let segments = look_up(&self.segments, &tokens.segments, "segment")?;
        let positions = self.positions.narrow(0, 0, steps)?;
        let x = (words + segments)?.reshape((batch, steps, d))?;
        let x = x.broadcast_add(&positions)?;
        let x = layer_norm(&x, &self.norm[0], &self.norm[1], config.layer_norm_eps)?;
        let mut x = mode.child(0).dropout(&x, config.hidden_dropout_prob)?;
        let keys = tokens.mask.to_dtype(x.dtype())?.to_device(x.device())?;
        let mask = AttentionMask::default().keys(Some(&keys));
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, mask, mode.child(1 + i as u64))?;
        }
        Ok(x)
    }

    /// Word embeddings without the gradient of padding tokens, as with `padding_idx` of PyTorch.
    fn without_padding(&self, words: Tensor, ids: &Tensor) -> Result<Tensor> {
        if !words.track_op() {
            return Ok(words);
        }
        let rows = (words.dim(0)?, 1);
        let padding = ids
            .to_device(words.device())?
            .eq(self.config.pad_token_id)?;
        let padding = padding.reshape(rows)?.broadcast_as(words.shape())?;
        Ok(padding.contiguous()?.where_cond(&words.detach(), &words)?)
    }
}

/// Rows of a table, (B T, d).
fn look_up(table: &Tensor, numbers: &Tensor, what: &str) -> Result<Tensor> {
    let flat = numbers.flatten_all()?.to_dtype(DType::U32)?;
    let known = table.dim(0)?;
    if let Some(n) = flat
        .to_vec1::<u32>()?
        .into_iter()
        .find(|n| *n as usize >= known)
    {
        let remedy = format!("the encoder has {known}; is the tokeniser that of the encoder?");
        return Err(Error::value(format!("{what} {n}"), "not known", remedy));
    }
    Ok(table.index_select(&flat.to_device(table.device())?, 0)?)
}

/// Creates the parameters of a part.
#[derive(Clone, Copy)]
struct ParameterSource {
    init: Init,
    frozen: bool,
}

impl ParameterSource {
    /// A parameter; a frozen one shares its values but has no gradient.
    fn get(self, scope: &Parameters, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.start(scope, name, shape, self.init)
    }

    fn start(self, scope: &Parameters, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let parameter = scope.get(name, shape, init)?;
        Ok(match self.frozen {
            true => parameter.detach(),
            false => parameter,
        })
    }

    fn dense(self, scope: &Parameters, inputs: usize, outputs: usize) -> Result<[Tensor; 2]> {
        Ok([
            self.get(scope, "weight", &[outputs, inputs])?,
            self.start(scope, "bias", &[outputs], Init::Constant(0.0))?,
        ])
    }

    fn norm(self, scope: &Parameters, width: usize) -> Result<[Tensor; 2]> {
        Ok([
            self.start(scope, "weight", &[width], Init::Constant(1.0))?,
            self.start(scope, "bias", &[width], Init::Constant(0.0))?,
        ])
    }

    fn layer(self, scope: &Parameters, config: &BertConfig) -> Result<EncoderLayer> {
        let (d, hidden) = (config.hidden_size, config.intermediate_size);
        let (attention, output) = (scope.scope("attention"), scope.scope("output"));
        let own = attention.scope("self");
        let [query, key, value] =
            ["query", "key", "value"].map(|name| self.dense(&own.scope(name), d, d));
        let ([wq, bq], [wk, bk], [wv, bv]) = (query?, key?, value?);
        let after = attention.scope("output");
        let parts = AttentionParts {
            weights: [wq, wk, wv],
            biases: [bq, bk, bv],
            out: self.dense(&after.scope("dense"), d, d)?,
        };
        let dropout = config.attention_probs_dropout_prob;
        let settings = LayerSettings::new(d, config.num_attention_heads)
            .hidden(hidden)
            .epsilon(config.layer_norm_eps)
            .activation(match config.hidden_act {
                Activation::Gelu => Inner::Gelu,
                Activation::Relu => Inner::Relu,
            })
            .attention_dropout(dropout)
            .residual_dropout(config.hidden_dropout_prob);
        let heads = config.num_attention_heads;
        let parts = LayerParts {
            attention: MultiHeadAttention::from_parts(parts, heads, dropout)?,
            attention_norm: self.norm(&after.scope("LayerNorm"), d)?,
            expand: self.dense(&scope.scope("intermediate").scope("dense"), d, hidden)?,
            contract: self.dense(&output.scope("dense"), hidden, d)?,
            final_norm: self.norm(&output.scope("LayerNorm"), d)?,
        };
        EncoderLayer::from_parts(parts, settings)
    }
}
