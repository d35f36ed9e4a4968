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
mod inspect;
mod naming;
mod projection;

use alignment::nothing;

pub use alignment::Alignment;
pub use inspect::{Pooled, Prototypes};
pub use naming::parameter_key;

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::{Init, Mode, Parameters, concatenate, linear, linear_relu_dropout};
use decalign_core::op::parallel;
use decalign_core::profile::phase;
use decalign_data::Sequence;
use decalign_decouple::{Decoupled, Decoupler, cosine_squared};
use decalign_fusion::{CrossModalEncoder, Encoder, EncoderSettings, LayerSettings, mean_pool};
use decalign_text::{Bert, Tokens, load_weights};

use crate::config::{Component, ModelConfig, Semantics, TextEncoderConfig};
use crate::objective::sum_on_device;
use crate::{Error, Result};
use projection::Projection;

/// A DecAlign model and its parameters.
#[derive(Clone, Debug)]
pub struct DecAlign {
    config: ModelConfig,
    parameters: Parameters,
    text_encoder: Option<Bert>,
    projections: Vec<Projection>,
    /// `None` when decoupling is left out.
    decoupler: Option<Decoupler>,
    encoder: CrossModalEncoder,
    distribution: Vec<DistributionEncoder>,
    head: [Tensor; 2],
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct ModelOutput {
    /// (B, outputs): scores, or logits of classes.
    pub prediction: Tensor,
    /// (B, 2 M d): what the prediction is read from.
    pub representation: Tensor,
    /// The alignment losses, when asked for.
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
    first: [Tensor; 2],
    second: [Tensor; 2],
}

impl DistributionEncoder {
    fn new(parameters: &Parameters, width: usize, outputs: usize) -> Result<Self> {
        let net = parameters.scope("net");
        Ok(Self {
            first: dense(&net.scope(0), width, width)?,
            second: dense(&net.scope(3), width, outputs)?,
        })
    }

    fn forward(&self, x: &Tensor, dropout: f64, mode: Mode) -> decalign_core::Result<Tensor> {
        let [weight, bias] = &self.first;
        let hidden = linear_relu_dropout(x, weight, Some(bias), (dropout, mode))?;
        linear(&hidden, &self.second[0], Some(&self.second[1]))
    }
}

/// Weight and bias of a linear layer.
fn dense(parameters: &Parameters, inputs: usize, outputs: usize) -> Result<[Tensor; 2]> {
    let init = Init::KaimingUniform { fan_in: inputs };
    Ok([
        parameters.get("weight", (outputs, inputs), init)?,
        parameters.get("bias", outputs, init)?,
    ])
}

/// Numbers of the places that drop out, see [`Mode::child`].
mod place {
    pub(super) const INPUT: u64 = 0;
    pub(super) const FUSION: u64 = 1;
    pub(super) const DISTRIBUTION: u64 = 2;
    pub(super) const OUTPUT: u64 = 3;
    pub(super) const TEXT: u64 = 4;
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
        let mut projections = Vec::new();
        let mut encoders = Vec::new();
        let mut distribution = Vec::new();
        for (modality, key) in config.modalities.iter().zip(&keys) {
            let scope = |name: &str| parameters.scope(format!("{name}_{key}"));
            projections.push(Projection::new(&scope("proj"), modality, d)?);
            let layer = LayerSettings::new(d, config.heads)
                .attention_dropout(modality.attention_dropout)
                .activation_dropout(config.relu_dropout)
                .residual_dropout(config.residual_dropout);
            let settings =
                EncoderSettings::new(config.layers, layer).embed_dropout(config.embed_dropout);
            encoders.push(Encoder::new(&scope("trans"), settings)?);
            distribution.push(DistributionEncoder::new(
                &scope("pde"),
                d,
                config.distribution_width,
            )?);
        }
        let inputs = 2 * d * keys.len();
        let text_encoder = match &config.text_encoder {
            Some(TextEncoderConfig { bert, freeze, .. }) => {
                let scope = parameters.scope("text_model").scope("model");
                Some(Bert::new(&scope, bert, *freeze)?)
            }
            None => None,
        };
        Ok(Self {
            config: config.clone(),
            text_encoder,
            projections,
            decoupler: match config.has(Component::Decoupling) {
                true => Some(Decoupler::new(&parameters, &keys, d)?),
                false => None,
            },
            encoder: CrossModalEncoder::new(encoders)?,
            distribution,
            head: dense(&parameters.scope("out_layer"), inputs, config.outputs)?,
            parameters,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The parameters, by the names of the release's state dict.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The trainable variables by name.
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    /// Gives the text encoder the weights of a folder.
    ///
    /// # Errors
    /// When they are not there, or not of its sizes.
    pub fn load_text_encoder(&self, folder: impl AsRef<Path>) -> Result<()> {
        Ok(load_weights(&self.parameters, "text_model.model.", folder)?)
    }

    /// Runs the model on one sequence a modality, in the order of the configuration.
    ///
    /// The alignment losses are computed when `align` is true: training needs them, prediction
    /// does not.
    ///
    /// # Shapes
    /// Features (B, T_m, D_m) with T_m at least the modality's kernel size; of token text (B, 3, T), see
    /// [`Tokens::from_rows`].
    ///
    /// # Errors
    /// When shapes do not fit the configuration, or a batch is too small for the alignment.
    pub fn forward(&self, sequences: &[Sequence], align: bool, mode: Mode) -> Result<ModelOutput> {
        if sequences.len() != self.projections.len() {
            return Err(Error::invalid(format!(
                "the model takes {} modalities, the batch has {}",
                self.projections.len(),
                sequences.len()
            )));
        }
        let mut parts = Vec::new();
        let mut masks = Vec::new();
        let text = phase("text", || {
            self.encode_text(sequences, mode.child(place::TEXT))
        })?;
        for (i, (projection, sequence)) in self.projections.iter().zip(sequences).enumerate() {
            let sequence = match (&text, &self.config.text_encoder) {
                (Some(text), Some(encoder)) if encoder.modality == i => text,
                _ => sequence,
            };
            let mode = mode.child(place::INPUT).child(i as u64);
            let project = || projection.forward(sequence, &self.config, mode);
            let (x, mask) = phase("projection", project)?;
            parts.push(phase("decoupling", || self.decouple(i, x))?);
            masks.push(mask);
        }
        let pool = |x: &Tensor, i: usize| mean_pool(x, masks[i].as_ref());
        let common = parts
            .iter()
            .enumerate()
            .map(|(i, part)| pool(&part.common, i));
        let common: Vec<Tensor> = common.collect::<decalign_core::Result<_>>()?;
        let active = self.active();
        let fusion = mode.child(place::FUSION);
        let mut branches = self.fusion_branches(&active, &parts, &masks, fusion)?;
        let pieces = branches.len() / active.len().max(1);
        if align {
            let unique = active.iter().map(|i| pool(&parts[*i].unique, *i));
            branches.push(self.heterogeneous_branch(unique.collect::<decalign_core::Result<_>>()?));
            let mode = mode.child(place::DISTRIBUTION);
            branches.push(self.homogeneous_branch(&active, &common, mode));
        }
        let mut done = parallel(branches)?.into_iter();
        let mut hidden = vec![None; parts.len()];
        for i in &active {
            let pooled: Vec<Tensor> = done.by_ref().take(pieces).flatten().collect();
            hidden[*i] = Some(Tensor::cat(&pooled, 0)?);
        }
        let representation = represent(&hidden, &common)?;
        let dropped = mode
            .child(place::OUTPUT)
            .dropout(&representation, self.config.output_dropout)?;
        let prediction = linear(&dropped, &self.head[0], Some(&self.head[1]))?;
        let (mut alignment, mut distribution) = (None, Vec::new());
        if let (Some(heterogeneous), Some(mut homogeneous)) = (done.next(), done.next()) {
            distribution = homogeneous.split_off(1);
            alignment = Some(Alignment {
                decoupling: phase("decoupling", || self.decoupling_loss(&active, &parts))?,
                heterogeneous: heterogeneous[0].clone(),
                homogeneous: homogeneous[0].clone(),
            });
        }
        Ok(ModelOutput {
            text: text.map(|text| text.features),
            prediction,
            representation,
            alignment,
            parts,
            distribution,
        })
    }

    /// The states of token text, and which of them exist.
    fn encode_text(&self, sequences: &[Sequence], mode: Mode) -> Result<Option<Sequence>> {
        let (Some(bert), Some(config)) = (&self.text_encoder, &self.config.text_encoder) else {
            return Ok(None);
        };
        let mut tokens = Tokens::from_rows(&sequences[config.modality].features)?;
        // What is masked anyway need not be computed; a wider kernel would see where it ends.
        let alone = self.config.modalities[config.modality].kernel_size == 1;
        if alone && self.config.semantics == Semantics::Native {
            tokens = tokens.trimmed()?;
        }
        Ok(Some(Sequence {
            features: bert.forward(&tokens, mode)?,
            mask: Some(tokens.mask),
        }))
    }

    /// The parts of modality `i`; both are its features when decoupling is left out.
    fn decouple(&self, i: usize, x: Tensor) -> decalign_core::Result<Decoupled> {
        match &self.decoupler {
            Some(decoupler) => decoupler.forward(i, &x),
            None => Ok(Decoupled {
                unique: x.clone(),
                common: x,
            }),
        }
    }

    /// `L_dec`: mean squared cosine between the parts of active modalities.
    fn decoupling_loss(
        &self,
        active: &[usize],
        parts: &[Decoupled],
    ) -> decalign_core::Result<Tensor> {
        if self.decoupler.is_none() {
            return nothing(&parts[0].unique);
        }
        let angle = |i: &usize| cosine_squared(&parts[*i].unique, &parts[*i].common);
        let angles: Vec<Tensor> = active
            .iter()
            .map(angle)
            .collect::<decalign_core::Result<_>>()?;
        let share = 1.0 / angles.len() as f64;
        let terms: Vec<(Tensor, f64)> = angles.iter().map(|x| (x.clone(), share)).collect();
        match sum_on_device(&terms)? {
            Some(sum) => Ok(sum),
            None => Ok(Tensor::stack(&angles, 0)?.mean(0)?),
        }
    }

    /// The modalities that take part.
    fn active(&self) -> Vec<usize> {
        let modalities = &self.config.modalities;
        (0..modalities.len())
            .filter(|i| modalities[*i].active)
            .collect()
    }
}

/// `[h_1, ..., h_M, pool(c_1), ..., pool(c_M)]`, zeros for modalities that are not active.
fn represent(hidden: &[Option<Tensor>], common: &[Tensor]) -> Result<Tensor> {
    let mut columns = Vec::with_capacity(2 * hidden.len());
    for (h, c) in hidden.iter().zip(common) {
        columns.push(match h {
            Some(h) => h.clone(),
            None => c.zeros_like()?.detach(),
        });
    }
    for (h, c) in hidden.iter().zip(common) {
        columns.push(match h {
            Some(_) => c.clone(),
            None => c.zeros_like()?.detach(),
        });
    }
    let columns: Vec<&Tensor> = columns.iter().collect();
    Ok(concatenate(&columns, 1.0, &[(0.0, Mode::Inference)])?.swap_remove(0))
}
