//! The DecAlign model: project, decouple, align, fuse, predict.
//!
//! ```text
//! x_m --projection--> x_m --decouple--> s_m --prototypes, transport--> L_hete
//!                                 |      \---cross-modal encoder--> h_m \
//!                                 \---> c_m --moments, MMD--> L_homo     final --> prediction
//!                                         \----------pool---------------/
//! ```
//!
//! Modalities are a list with names; text, audio and vision are one instance of it. The two
//! [semantics](crate::config::Semantics) are settings of the same path.

mod alignment;
mod branches;
mod encoder;
mod forward;
mod inspect;

pub use crate::config::parameter_key;
pub use alignment::Alignment;
pub use inspect::{Pooled, Prototypes};

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::{Mode, Parameters};
use decalign_decouple::{Decoupled, Decoupler};
use decalign_fusion::{CrossModalEncoder, Encoder, EncoderSettings, LayerSettings};

use crate::config::{Component, ModelConfig};
use crate::dense::Dense;
use crate::{Error, Result};
use encoder::{EncoderPlan, ModalityEncoder};

/// A DecAlign model and its parameters.
#[derive(Clone, Debug)]
pub struct DecAlign {
    config: ModelConfig,
    parameters: Parameters,
    /// One a modality.
    encoders: Vec<Arc<dyn ModalityEncoder>>,
    /// `None` when decoupling is left out.
    decoupler: Option<Decoupler>,
    fusion: CrossModalEncoder,
    distribution: Vec<DistributionEncoder>,
    head: Dense,
}

/// The output of a forward pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelOutput {
    /// (B, outputs): scores, or logits of classes.
    pub prediction: Tensor,
    /// (B, 2 M d): the input of the prediction head.
    pub representation: Tensor,
    /// The alignment losses, if they were requested.
    pub alignment: Option<Alignment>,
    /// The states of the text encoder (B, T, D), where there is one.
    pub text: Option<Tensor>,
    /// The unique and common parts, one entry a modality, (B, L_m, d) each.
    pub parts: Vec<Decoupled>,
    /// The distribution features z_m, (B, P) each, of active modalities when alignment was asked
    /// for.
    pub distribution: Vec<Tensor>,
}

/// `E_m`: Linear, ReLU, dropout, Linear.
#[derive(Clone, Debug)]
struct DistributionEncoder {
    first: Dense,
    second: Dense,
}

impl DistributionEncoder {
    fn new(parameters: &Parameters, width: usize, outputs: usize) -> Result<Self> {
        let net = parameters.scope("net");
        Ok(Self {
            first: Dense::new(&net.scope(0), width, width)?,
            second: Dense::new(&net.scope(3), width, outputs)?,
        })
    }

    fn forward(&self, x: &Tensor, dropout: f64, mode: Mode) -> decalign_core::Result<Tensor> {
        self.second.apply(&self.first.hidden(x, dropout, mode)?)
    }
}

impl DecAlign {
    /// A model with fresh parameters drawn from `seed`.
    ///
    /// # Errors
    /// When the configuration does not fit itself.
    pub fn new(config: &ModelConfig, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        if !config.modalities.iter().any(|m| m.active) {
            return Err(Error::config(
                "active_modalities",
                "none: at least one is needed",
            ));
        }
        let parameters = Parameters::new(seed, dtype, device);
        let keys: Vec<String> = config
            .modalities
            .iter()
            .map(|m| parameter_key(&m.name))
            .collect();
        let d = config.width;
        let mut encoders = Vec::new();
        let mut fusion = Vec::new();
        let mut distribution = Vec::new();
        for (index, (modality, key)) in config.modalities.iter().zip(&keys).enumerate() {
            let scope = |name: &str| parameters.scope(format!("{name}_{key}"));
            let plan = EncoderPlan {
                parameters: &parameters,
                config,
                index,
            };
            encoders.push(plan.build()?);
            let layer = LayerSettings::new(d, config.heads)
                .attention_dropout(modality.attention_dropout)
                .activation_dropout(config.relu_dropout)
                .residual_dropout(config.residual_dropout);
            let settings =
                EncoderSettings::new(config.layers, layer).embed_dropout(config.embed_dropout);
            fusion.push(Encoder::new(&scope("trans"), settings)?);
            distribution.push(DistributionEncoder::new(
                &scope("pde"),
                d,
                config.distribution_width,
            )?);
        }
        let inputs = 2 * d * keys.len();
        Ok(Self {
            config: config.clone(),
            encoders,
            decoupler: match config.has(Component::Decoupling) {
                true => Some(Decoupler::new(&parameters, &keys, d)?),
                false => None,
            },
            fusion: CrossModalEncoder::new(fusion)?,
            distribution,
            head: Dense::new(&parameters.scope("out_layer"), inputs, config.outputs)?,
            parameters,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The parameters, by the names of upstream's state dict.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The trainable variables by name.
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    /// Loads the weights that encoders start from, where [`ModelConfig::keys`] name a folder of them.
    ///
    /// # Errors
    /// When the folder has no weights of the encoder's sizes.
    pub fn load_pretrained(&self) -> Result<()> {
        match &self.config.keys.pretrained {
            Some(folder) => {
                (self.encoders.iter()).try_for_each(|e| e.load_pretrained(folder.as_ref()))
            }
            None => Ok(()),
        }
    }
}
