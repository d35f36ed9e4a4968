//! The configuration of a BERT: `config.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The activation of the feed-forward networks.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// GELU by the error function.
    #[default]
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// The configuration of a [`Bert`](crate::Bert): the keys of `config.json` that it uses.
///
/// Other keys are ignored, except those that would change the results: they are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// The architecture: `bert`.
    #[serde(default = "bert")]
    pub model_type: String,
    /// The number of tokens.
    pub vocab_size: usize,
    /// Width d.
    pub hidden_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of heads, which divides d.
    pub num_attention_heads: usize,
    /// Inner width of the feed-forward networks.
    pub intermediate_size: usize,
    /// The longest text, in tokens.
    #[serde(default = "positions")]
    pub max_position_embeddings: usize,
    /// The number of segments.
    #[serde(default = "segments")]
    pub type_vocab_size: usize,
    /// The activation.
    #[serde(default)]
    pub hidden_act: Activation,
    /// Added to the variance by layer norms.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// Dropout of embeddings and before residual sums.
    #[serde(default = "dropout")]
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights.
    #[serde(default = "dropout")]
    pub attention_probs_dropout_prob: f64,
    /// The padding token.
    #[serde(default)]
    pub pad_token_id: u32,
    /// The kind of positions: `absolute`.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// True if it is a decoder; none is supported.
    #[serde(default)]
    pub is_decoder: bool,
}

fn bert() -> String {
    "bert".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn positions() -> usize {
    512
}

fn segments() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

fn dropout() -> f64 {
    0.1
}

/// `config.json` of a folder.
pub(crate) fn read_config(folder: &Path) -> Result<serde_json::Value> {
    if !folder.is_dir() {
        let message = "no such folder; nothing is downloaded: put config.json, model.safetensors and \
                       tokenizer.json (or vocab.txt) of a BERT into a folder and give its path";
        return Err(Error::file(folder, message));
    }
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
    serde_json::from_str(&text).map_err(|error| Error::file(&path, error))
}

impl BertConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// When there is no such folder or file, or it is not the configuration of a BERT.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join("config.json");
        let config: Self = serde_json::from_value(read_config(folder)?)
            .map_err(|error| Error::file(&path, error))?;
        config.check().map_err(|error| Error::file(&path, error))?;
        Ok(config)
    }

    /// Checks that this is the configuration of a BERT.
    ///
    /// # Errors
    /// When a size is 0 or does not fit another, or a key has an unsupported value; the error names the key.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, got: &dyn std::fmt::Display, remedy: &str| {
            Err(Error::value(key, got, remedy))
        };
        if self.model_type != "bert" {
            let remedy = "only the architecture bert is supported (BERT, MiniLM, Chinese BERT)";
            return wrong("model_type", &self.model_type, remedy);
        }
        if self.position_embedding_type != "absolute" {
            let key = "position_embedding_type";
            return wrong(key, &self.position_embedding_type, "must be absolute");
        }
        if self.is_decoder {
            return wrong("is_decoder", &true, "must be false");
        }
        for (key, size) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            if size == 0 {
                return wrong(key, &size, "must be at least 1");
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let remedy = format!("must divide hidden_size, {}", self.hidden_size);
            return wrong("num_attention_heads", &self.num_attention_heads, &remedy);
        }
        for (key, p) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                self.attention_probs_dropout_prob,
            ),
        ] {
            if !(0.0..1.0).contains(&p) {
                return wrong(key, &p, "must lie in [0, 1)");
            }
        }
        if self.layer_norm_eps.is_nan() || self.layer_norm_eps <= 0.0 {
            return wrong("layer_norm_eps", &self.layer_norm_eps, "must be positive");
        }
        Ok(())
    }
}
