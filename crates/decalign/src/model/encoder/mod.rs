//! Encoders of modalities: from a batch's sequences to features of the model's width.
//!
//! A new encoder needs a file with a [`ModalityEncoder`], an entry in [`ENCODERS`], and keys in `config/keys.rs`.

mod convolution;
mod tokens;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use decalign_core::nn::{Mode, Parameters};
use decalign_data::Sequence;

use super::parameter_key;
use crate::Result;
use crate::config::{ModalityConfig, ModelConfig};
use convolution::Convolution;
use tokens::TokenEncoder;

/// The encoder of one modality.
pub(super) trait ModalityEncoder: Debug + Send + Sync {
    /// Encodes the sequences of a batch.
    ///
    /// # Shapes
    /// Features (B, T, D) to (B, L, d) with L at most T.
    ///
    /// # Errors
    /// When the features do not have the modality's width, or are too short.
    fn encode(&self, sequence: &Sequence, context: &EncodeContext<'_>) -> Result<Encoded>;

    /// Loads pretrained weights of a folder, where the encoder has some.
    ///
    /// # Errors
    /// When the folder has no weights of the encoder's sizes.
    fn load_pretrained(&self, folder: &Path) -> Result<()> {
        let _ = folder;
        Ok(())
    }
}

/// The settings and the dropout streams of a forward pass.
pub(super) struct EncodeContext<'a> {
    pub(super) config: &'a ModelConfig,
    /// Dropout of this modality.
    pub(super) mode: Mode,
    /// Dropout inside the text encoder.
    pub(super) text: Mode,
}

/// The features of one modality.
pub(super) struct Encoded {
    /// (B, L, d).
    pub(super) features: Tensor,
    /// (B, L), 1 for steps that exist; every step exists where absent.
    pub(super) mask: Option<Tensor>,
    /// The states of a text encoder, (B, T, D).
    pub(super) text: Option<Tensor>,
}

/// The parameters and settings that an encoder is built from.
pub(super) struct EncoderPlan<'a> {
    pub(super) parameters: &'a Parameters,
    pub(super) config: &'a ModelConfig,
    /// The number of the modality.
    pub(super) index: usize,
}

impl EncoderPlan<'_> {
    fn modality(&self) -> &ModalityConfig {
        &self.config.modalities[self.index]
    }

    /// The modality's parameters under the name of a part.
    fn scope(&self, part: &str) -> Parameters {
        let key = parameter_key(&self.modality().name);
        self.parameters.scope(format!("{part}_{key}"))
    }

    /// The encoder of the modality.
    pub(super) fn build(&self) -> Result<Arc<dyn ModalityEncoder>> {
        let mut entries = ENCODERS.iter();
        let entry = entries.find(|entry| (entry.encodes)(self.config, self.index));
        (entry.unwrap_or(&CONVOLUTION).build)(self)
    }
}

/// One kind of encoder.
struct EncoderEntry {
    /// True for the modalities that the configuration gives to this encoder.
    encodes: fn(&ModelConfig, usize) -> bool,
    build: fn(&EncoderPlan<'_>) -> Result<Arc<dyn ModalityEncoder>>,
}

/// The encoders that a configuration can ask for; the first that encodes a modality is used, else [`CONVOLUTION`].
const ENCODERS: &[EncoderEntry] = &[
    // Token text.
    EncoderEntry {
        encodes: TokenEncoder::encodes,
        build: |plan| Ok(Arc::new(TokenEncoder::new(plan)?)),
    },
];

const CONVOLUTION: EncoderEntry = EncoderEntry {
    encodes: |_, _| true,
    build: |plan| Ok(Arc::new(Convolution::new(plan)?)),
};
