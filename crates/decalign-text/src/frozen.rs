//! Frozen encoders of candle-transformers.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{debertav2, distilbert, modernbert, xlm_roberta};
use serde_json::Value;

use crate::tokens::Tokens;
use crate::weights::tensors;
use crate::{Error, Result};

/// Prefixes of tensor names in the files of models with a head.
const PREFIXES: [&str; 5] = ["distilbert.", "roberta.", "deberta.", "model.", "bert."];

/// An encoder of another architecture than BERT.
#[derive(Clone)]
pub(crate) struct Frozen {
    model: std::sync::Arc<Model>,
    width: usize,
    longest: usize,
    padding: u32,
}

enum Model {
    DistilBert(distilbert::DistilBertModel),
    /// RoBERTa and XLM-RoBERTa differ only in their vocabulary.
    Roberta(xlm_roberta::XLMRobertaModel),
    ModernBert(modernbert::ModernBert),
    Deberta(debertav2::DebertaV2Model),
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frozen encoder, {} wide", self.width)
    }
}

impl Frozen {
    /// Opens a folder whose configuration names this architecture; `None` if it is not supported here.
    pub(crate) fn open(folder: &Path, model_type: &str, config: &Value) -> Result<Option<Self>> {
        let keys = match model_type {
            "distilbert" => ["dim", "max_position_embeddings"],
            "roberta" | "xlm-roberta" | "modernbert" | "deberta-v2" => {
                ["hidden_size", "max_position_embeddings"]
            }
            _ => return Ok(None),
        };
        let path = folder.join("config.json");
        let number = |key: &str| match config[key].as_u64() {
            Some(value) if value > 0 => Ok(value as usize),
            _ => Err(Error::file(
                &path,
                format!("{key}: expected a number above 0"),
            )),
        };
        let [width, positions] = [number(keys[0])?, number(keys[1])?];
        let padding = config["pad_token_id"].as_u64().unwrap_or(0) as u32;
        let longest = match model_type {
            // Positions begin after that of the padding token.
            "roberta" | "xlm-roberta" => positions.saturating_sub(padding as usize + 1),
            _ => positions,
        };
        Ok(Some(Self {
            model: std::sync::Arc::new(Model::open(folder, model_type, config)?),
            width,
            longest,
            padding,
        }))
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The maximum length of a text in tokens.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The padding token.
    pub(crate) fn padding(&self) -> u32 {
        self.padding
    }

    /// The states of the last layer, (B, T, d).
    pub(crate) fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        let (batch, steps) = tokens.dims()?;
        let ids = &tokens.ids;
        Ok(match &*self.model {
            Model::DistilBert(model) => {
                // Its mask is 1 for padding.
                let hidden = tokens.mask.eq(0u8)?.reshape((batch, 1, 1, steps))?;
                model.forward(ids, &hidden)?
            }
            Model::Roberta(model) => {
                let mask = tokens.mask.to_dtype(DType::F32)?;
                model.forward(ids, &mask, &tokens.segments, None, None, None)?
            }
            Model::ModernBert(model) => model.forward(ids, &tokens.mask.to_dtype(DType::F32)?)?,
            Model::Deberta(model) => {
                let mask = tokens.mask.to_dtype(DType::I64)?;
                model.forward(ids, Some(tokens.segments.clone()), Some(mask))?
            }
        })
    }
}

impl Model {
    fn open(folder: &Path, model_type: &str, config: &Value) -> Result<Self> {
        let path = folder.join("config.json");
        let wrong = |error: serde_json::Error| Error::file(&path, error);
        let plain = tensors(folder)?.into_iter().map(|(name, tensor)| {
            let own = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
            let own = own.unwrap_or(&name);
            let name = match model_type {
                "modernbert" => format!("model.{own}"),
                _ => own.to_owned(),
            };
            (name, tensor)
        });
        let weights: HashMap<String, Tensor> = plain.collect();
        let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let config = completed(config);
        let model = match model_type {
            "distilbert" => {
                let config = serde_json::from_value(config).map_err(wrong)?;
                distilbert::DistilBertModel::load(weights, &config).map(Self::DistilBert)
            }
            "modernbert" => {
                let config = serde_json::from_value(config).map_err(wrong)?;
                modernbert::ModernBert::load(weights, &config).map(Self::ModernBert)
            }
            "deberta-v2" => {
                let config = serde_json::from_value(config).map_err(wrong)?;
                debertav2::DebertaV2Model::load(weights, &config).map(Self::Deberta)
            }
            _ => {
                let config = serde_json::from_value(config).map_err(wrong)?;
                xlm_roberta::XLMRobertaModel::new(&config, weights).map(Self::Roberta)
            }
        };
        model.map_err(|error| Error::file(&folder.join("model.safetensors"), error))
    }
}

/// The configuration, completed with keys that newer files omit or rename.
fn completed(config: &Value) -> Value {
    let mut config = config.clone();
    let theta = |kind: &str| config["rope_parameters"][kind]["rope_theta"].clone();
    let known = [
        ("position_embedding_type", Value::from("absolute")),
        ("layer_norm_eps", config["norm_eps"].clone()),
        ("global_rope_theta", theta("full_attention")),
        ("local_rope_theta", theta("sliding_attention")),
    ];
    for (key, value) in known {
        if config[key].is_null() && !value.is_null() {
            config[key] = value;
        }
    }
    config
}
