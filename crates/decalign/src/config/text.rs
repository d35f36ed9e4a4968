//! The encoder of token text.

use decalign_text::{BertConfig, Freeze};

use super::{Config, ModalityKind, TextEncoderConfig};
use crate::{Error, Result};

impl Config {
    /// The modality that arrives as tokens, if any.
    pub(super) fn token_modality(&self, names: &[String]) -> Result<Option<usize>> {
        if !self.use_bert {
            return Ok(None);
        }
        match names.iter().position(|name| is_text(name)) {
            Some(i) => Ok(Some(i)),
            None => {
                let message = format!("there is no text among {}", names.join(", "));
                Err(Error::config("use_bert", message))
            }
        }
    }

    /// The configured text encoder; fills in its sizes and the modality's width.
    pub(super) fn text_encoder(&mut self, names: &[String]) -> Result<Option<TextEncoderConfig>> {
        let Some(modality) = self.token_modality(names)? else {
            return Ok(None);
        };
        let bert = match (&self.bert_config, &self.pretrained) {
            (Some(bert), _) => {
                let bad =
                    |error: decalign_text::Error| Error::config("bert_config", error.to_string());
                bert.check().map_err(bad)?;
                bert.clone()
            }
            (None, Some(folder)) => BertConfig::open(folder)
                .map_err(|error| Error::config("pretrained", error.to_string()))?,
            (None, None) => {
                let message = "needs a text encoder: set pretrained to the folder of a BERT \
                               (config.json, model.safetensors)";
                return Err(Error::config("use_bert", message));
            }
        };
        let freeze = match (self.use_finetune, self.bert_frozen_layers) {
            (false, _) => Freeze::Everything,
            (true, None) => Freeze::Nothing,
            (true, Some(n)) => {
                if n > bert.num_hidden_layers {
                    let there = bert.num_hidden_layers;
                    let message = format!("is {n}, the text encoder has {there} layers");
                    return Err(Error::config("bert_frozen_layers", message));
                }
                Freeze::Layers(n)
            }
        };
        if let Some(width) = self.feature_dims.as_mut().and_then(|w| w.get_mut(modality)) {
            *width = bert.hidden_size;
        }
        self.bert_config = Some(bert.clone());
        Ok(Some(TextEncoderConfig {
            bert,
            freeze,
            modality,
        }))
    }

    /// True if a modality's features are numbers to standardise; tokens are not.
    pub(crate) fn has_features(&self, modality: &str) -> bool {
        !(self.use_bert && is_text(modality))
    }
}

fn is_text(modality: &str) -> bool {
    ModalityKind::of(modality) == ModalityKind::Text
}
