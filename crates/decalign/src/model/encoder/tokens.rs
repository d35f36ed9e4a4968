//! Token text: a BERT, and the convolution on its states.

use std::path::Path;

use decalign_core::nn::{Mode, Parameters};
use decalign_core::profile::phase;
use decalign_data::Sequence;
use decalign_text::{Bert, Tokens, load_weights};

use super::convolution::Convolution;
use super::{EncodeContext, Encoded, EncoderPlan, ModalityEncoder};
use crate::config::{ModelConfig, Semantics};
use crate::{Error, Result};

/// The name of the text encoder's parameters.
const SCOPE: &str = "text_model.model";

/// Encodes token text, (B, 3, T), see [`Tokens::from_rows`].
#[derive(Debug)]
pub(super) struct TokenEncoder {
    bert: Bert,
    parameters: Parameters,
    convolution: Convolution,
}

impl TokenEncoder {
    pub(super) fn new(plan: &EncoderPlan<'_>) -> Result<Self> {
        let Some(config) = &plan.config.text_encoder else {
            return Err(Error::config("use_bert", "token text needs a text encoder"));
        };
        let scope = plan.parameters.scope(SCOPE);
        Ok(Self {
            bert: Bert::new(&scope, &config.bert, config.freeze)?,
            parameters: plan.parameters.clone(),
            convolution: Convolution::new(plan)?,
        })
    }

    /// True for the modality that arrives as tokens.
    pub(super) fn encodes(config: &ModelConfig, modality: usize) -> bool {
        let encoder = config.text_encoder.as_ref();
        encoder.is_some_and(|encoder| encoder.modality == modality)
    }

    /// The states of the tokens and their mask.
    fn states(&self, rows: &Sequence, config: &ModelConfig, mode: Mode) -> Result<Sequence> {
        let mut tokens = Tokens::from_rows(&rows.features)?;
        // Trailing padding is masked, so it need not be computed. A wider kernel would see the end of the sequence.
        if self.convolution.kernel_size() == 1 && config.semantics == Semantics::Native {
            tokens = tokens.trimmed()?;
        }
        let states = self.bert.forward(&tokens, mode)?;
        Ok(Sequence::new(states, Some(tokens.mask)))
    }
}

impl ModalityEncoder for TokenEncoder {
    fn encode(&self, sequence: &Sequence, context: &EncodeContext<'_>) -> Result<Encoded> {
        let states = phase("text", || {
            self.states(sequence, context.config, context.text)
        })?;
        Ok(Encoded {
            text: Some(states.features.clone()),
            ..self.convolution.encode(&states, context)?
        })
    }

    fn load_pretrained(&self, folder: &Path) -> Result<()> {
        Ok(load_weights(
            &self.parameters,
            &format!("{SCOPE}."),
            folder,
        )?)
    }
}
