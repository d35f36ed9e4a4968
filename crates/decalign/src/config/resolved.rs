//! Valid settings of a model and an objective.

use super::{ClassWeight, Component, Config, CostReduction, Semantics, TrainMode};
use crate::metrics::Benchmark;
use decalign_text::{BertConfig, Freeze};

/// One modality of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModalityConfig {
    /// The name.
    pub name: String,
    /// Features a step, D.
    pub width: usize,
    /// Steps that the convolution looks at.
    pub kernel_size: usize,
    /// Dropout of attention weights.
    pub attention_dropout: f64,
    /// False: the modality does not take part and its features are zeros.
    pub active: bool,
}

/// The encoder of token text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TextEncoderConfig {
    /// Its sizes.
    pub bert: BertConfig,
    /// The frozen part.
    pub freeze: Freeze,
    /// Which modality is text.
    pub modality: usize,
}

impl TextEncoderConfig {
    /// About how many parameters it has.
    pub(super) fn parameters(&self) -> f64 {
        let bert = &self.bert;
        let (d, hidden) = (bert.hidden_size as f64, bert.intermediate_size as f64);
        let tables = [
            bert.vocab_size,
            bert.max_position_embeddings,
            bert.type_vocab_size,
        ];
        let rows: f64 = tables.iter().map(|rows| *rows as f64).sum();
        d * rows + bert.num_hidden_layers as f64 * d * (4.0 * d + 2.0 * hidden)
    }
}

/// The settings of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Upstream's computation or this project's.
    pub semantics: Semantics,
    /// The modalities, in order.
    pub modalities: Vec<ModalityConfig>,
    /// The encoder of token text; text is features without.
    pub text_encoder: Option<TextEncoderConfig>,
    /// Width d of everything after the projection.
    pub width: usize,
    /// Attention heads; they divide d.
    pub heads: usize,
    /// Layers of each cross-modal encoder.
    pub layers: usize,
    /// Gaussian prototypes a modality, K.
    pub prototypes: usize,
    /// Steps of EM.
    pub em_iterations: usize,
    /// Variances of prototypes are not taken below this.
    pub variance_floor: f64,
    /// Entropic regularisation of the transport.
    pub transport_epsilon: f64,
    /// Sinkhorn sweeps (at most, in native semantics).
    pub transport_iterations: usize,
    /// Mean or sum over dimensions in prototype costs.
    pub cost_reduction: CostReduction,
    /// Divide the sample-to-prototype cost by the prototype's variances.
    pub local_mahalanobis: bool,
    /// Width P of the distribution features.
    pub distribution_width: usize,
    /// Variance of the Gaussian kernel of the MMD.
    pub mmd_bandwidth: f64,
    /// Dropout of encoder inputs.
    pub embed_dropout: f64,
    /// Dropout inside feed-forward parts.
    pub relu_dropout: f64,
    /// Dropout before residual sums.
    pub residual_dropout: f64,
    /// Dropout before the prediction.
    pub output_dropout: f64,
    /// Dropout of text features.
    pub text_dropout: f64,
    /// Attention over the other modalities, or over itself.
    pub cross_modal_attention: bool,
    /// Causal mask in self-attention.
    pub causal_mask: bool,
    /// Reference semantics: leave padded steps out.
    pub sequence_mask: bool,
    /// Parts of the method that are left out.
    pub without: Vec<Component>,
    /// Numbers the model predicts: 1, or one a class.
    pub outputs: usize,
    /// The keys, which encoders read.
    pub keys: Config,
}

impl ModelConfig {
    /// True unless the part of the method is left out.
    pub fn has(&self, component: Component) -> bool {
        !self.without.contains(&component)
    }
}

/// The loss of regression.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RegressionLoss {
    /// Mean absolute error.
    Mae,
    /// Mean squared error.
    Mse,
    /// Squared below beta, absolute above.
    SmoothL1 {
        /// Where one turns into the other, > 0.
        beta: f64,
    },
}

/// The kind of prediction and its loss.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Task {
    /// A score.
    Regression(RegressionLoss),
    /// One of several classes, by cross-entropy.
    Classification {
        /// How many.
        classes: usize,
        /// How they weigh.
        class_weight: ClassWeight,
    },
}

/// The settings of an objective.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ObjectiveConfig {
    /// The task and its loss.
    pub task: Task,
    /// The keys, which give the weights of the losses.
    pub keys: Config,
}

/// A configuration that fits its data: what was left open is filled in.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// All keys, with modalities, widths and task filled in.
    pub config: Config,
    /// For the model.
    pub model: ModelConfig,
    /// For the objective.
    pub objective: ObjectiveConfig,
}

impl Resolved {
    /// The benchmark that gives the metrics.
    pub fn benchmark(&self) -> Benchmark {
        let classes = self.config.train_mode == Some(TrainMode::Classification);
        Benchmark::of(
            &self.config.dataset_name,
            classes.then_some(self.model.outputs),
        )
    }
}
