//! Every configuration key, its type, default and meaning.

use decalign_text::BertConfig;
use serde::{Deserialize, Serialize};

use crate::metrics::Goal;

/// How the alignment is computed; see `docs/architecture.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Semantics {
    /// The PyTorch release, number for number: exactly three modalities are aligned.
    Reference,
    /// What this project recommends: any number of modalities, log-domain transport to a
    /// tolerance, masks respected.
    Native,
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainMode {
    /// A score.
    Regression,
    /// A class.
    Classification,
}

/// The task loss of regression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskLoss {
    /// Mean absolute error.
    Mae,
    /// Mean squared error.
    Mse,
    /// Squared below `smooth_l1_beta`, absolute above.
    SmoothL1,
}

/// How classes weigh in the cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeight {
    /// All the same.
    None,
    /// By `N / (count * classes)` of the training part.
    Balanced,
}

/// A part of the method that a run can do without, as the paper's ablations do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Unique and common parts: without, both are the projected features, and `L_dec` is 0.
    Decoupling,
    /// `L_hete` as a whole.
    Heterogeneous,
    /// `L_homo` as a whole.
    Homogeneous,
    /// The transport between prototypes in `L_hete`; samples still go to prototypes.
    PrototypeOt,
    /// The supervised contrastive loss.
    Contrastive,
    /// Moment matching in `L_homo`.
    Moments,
    /// MMD in `L_homo`.
    Mmd,
}

/// How a cost over feature dimensions becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostReduction {
    /// Mean over dimensions.
    Mean,
    /// Sum over dimensions.
    Sum,
}

/// Every key of a configuration file. Fields are named as the keys are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names the benchmark, hence the metrics: `mosi`, `mosei`, `sims`, `iemocap`, or anything.
    pub dataset_name: String,
    /// `reference` or `native`.
    pub semantics: Semantics,
    /// The modalities to use, in order; all of the data when absent.
    pub modalities: Option<Vec<String>>,
    /// Of these, the ones that take part; all when absent. The others are zeros.
    pub active_modalities: Option<Vec<String>>,
    /// Features a step of each modality. Data, where there is any, overrules it.
    pub feature_dims: Option<Vec<usize>>,
    /// Which split of the data; its only or default one when absent.
    pub split: Option<String>,
    /// Take NaN and infinities in features as 0 instead of stopping.
    pub replace_non_finite: bool,
    /// Clip and z-score features by the training part.
    pub need_feature_standardized: bool,
    /// The modalities to standardise; all when absent.
    pub feature_standardize_modalities: Option<Vec<String>>,
    /// The percentiles to clip features to before standardising.
    pub feature_clip_percentiles: Option<(f64, f64)>,
    /// Text arrives as BERT tokens, and a text encoder is part of the model.
    pub use_bert: bool,
    /// The folder of the text encoder that training starts from.
    pub pretrained: Option<String>,
    /// The sizes of the text encoder, as its `config.json` says them; those of the folder when absent.
    pub bert_config: Option<BertConfig>,
    /// Whether the text encoder trains; frozen when false.
    pub use_finetune: bool,
    /// Layers of the text encoder, from its input on, that do not train, nor do its embeddings; all train when absent.
    pub bert_frozen_layers: Option<usize>,

    /// `regression` or `classification`; what the labels are when absent.
    pub train_mode: Option<TrainMode>,
    /// The number of classes; that of the data when absent.
    pub num_classes: Option<usize>,

    /// Model width d and attention heads; heads divide d.
    pub dst_feature_dim_nheads: (usize, usize),
    /// Layers of each cross-modal encoder.
    pub nlevels: usize,
    /// Convolution kernel of the text modality.
    pub conv1d_kernel_size_l: usize,
    /// Convolution kernel of the audio modality.
    pub conv1d_kernel_size_a: usize,
    /// Convolution kernel of the vision modality.
    pub conv1d_kernel_size_v: usize,
    /// Convolution kernels of all modalities in order; overrules the three above.
    pub conv1d_kernel_sizes: Option<Vec<usize>>,
    /// Attention over the other modalities; over itself when false.
    pub use_cross_modal_attention: bool,
    /// Causal mask in self-attention.
    pub attn_mask: bool,
    /// Reference semantics: leave padded steps out (native always does, where lengths are known).
    pub use_sequence_mask: bool,
    /// Dropout of attention weights, text modality.
    pub attn_dropout: f64,
    /// Dropout of attention weights, audio modality.
    pub attn_dropout_a: f64,
    /// Dropout of attention weights, vision modality.
    pub attn_dropout_v: f64,
    /// Dropout of attention weights of all modalities in order; overrules the three above.
    pub attn_dropouts: Option<Vec<f64>>,
    /// Dropout inside feed-forward parts.
    pub relu_dropout: f64,
    /// Dropout of encoder inputs.
    pub embed_dropout: f64,
    /// Dropout before residual sums.
    pub res_dropout: f64,
    /// Dropout before the prediction.
    pub output_dropout: f64,
    /// Dropout of text features.
    pub text_dropout: f64,

    /// Gaussian prototypes a modality, K.
    pub num_prototypes: usize,
    /// Steps of EM.
    pub gmm_em_iters: usize,
    /// Variances of prototypes are not taken below this.
    pub gmm_var_floor: f64,
    /// Entropic regularisation of the transport, epsilon.
    pub lambda_ot: f64,
    /// Sinkhorn sweeps (at most, in native semantics).
    pub ot_num_iters: usize,
    /// Mean or sum over dimensions in prototype costs.
    pub hetero_cost_reduction: CostReduction,
    /// Divide the sample-to-prototype cost by the prototype's variances.
    pub local_proto_mahalanobis: bool,
    /// Width of the distribution features; d when absent.
    pub pde_dim: Option<usize>,
    /// Variance of the Gaussian kernel of the MMD.
    pub mmd_bandwidth: f64,

    /// Loss of regression.
    pub task_loss: TaskLoss,
    /// Where smooth-L1 turns from squared to absolute.
    pub smooth_l1_beta: f64,
    /// Weights of classes in the cross-entropy.
    pub class_weight: ClassWeight,
    /// Weight of the loss of the sign, in regression.
    pub binary_task_weight: f64,
    /// Parts of the method to leave out: `decoupling`, `heterogeneous`, `homogeneous`,
    /// `prototype_ot`, `contrastive`, `moments`, `mmd`.
    pub without: Vec<Component>,
    /// Weight of the decoupling loss.
    pub dec_loss_weight: f64,
    /// Weight of the heterogeneous alignment.
    pub alpha: f64,
    /// Weight of the homogeneous alignment.
    pub beta: f64,
    /// Weight of the contrastive loss.
    pub ct_weight: f64,
    /// Temperature of the contrastive loss.
    pub ct_temperature: f64,

    /// Decides initial weights, the order of batches, and dropout.
    pub seed: u64,
    /// Samples a batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Passes over the training part, at most.
    pub num_epochs: usize,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// Learning rate of the text encoder; `learning_rate` when absent.
    pub bert_learning_rate: Option<f64>,
    /// L2 weight decay, inside the gradient.
    pub weight_decay: f64,
    /// The norm of all gradients is clipped to this.
    pub clip: f64,
    /// The learning rate is multiplied by this on a plateau.
    pub factor: f64,
    /// Epochs without improvement before that.
    pub scheduler_patience: usize,
    /// The metric that decides it; the validation loss when absent (or the data set's name).
    pub scheduler_metric: Option<String>,
    /// Whether it is to fall or to rise; known for known metrics.
    pub scheduler_mode: Option<Goal>,
    /// Epochs after the best one before training stops.
    pub early_stop_patience: usize,
    /// The metric that decides the best epoch; the validation loss when absent.
    pub selection_metric: Option<String>,
    /// Whether it is to fall or to rise; known for known metrics.
    pub selection_mode: Option<Goal>,
}

impl Default for Config {
    /// Native semantics with moderate sizes: a start for data of one's own.
    fn default() -> Self {
        Self {
            dataset_name: "custom".to_owned(),
            semantics: Semantics::Native,
            modalities: None,
            active_modalities: None,
            feature_dims: None,
            split: None,
            replace_non_finite: false,
            need_feature_standardized: true,
            feature_standardize_modalities: None,
            feature_clip_percentiles: None,
            use_bert: false,
            pretrained: None,
            bert_config: None,
            use_finetune: true,
            bert_frozen_layers: None,
            train_mode: None,
            num_classes: None,
            dst_feature_dim_nheads: (48, 4),
            nlevels: 4,
            conv1d_kernel_size_l: 1,
            conv1d_kernel_size_a: 1,
            conv1d_kernel_size_v: 1,
            conv1d_kernel_sizes: None,
            use_cross_modal_attention: true,
            attn_mask: true,
            use_sequence_mask: false,
            attn_dropout: 0.2,
            attn_dropout_a: 0.2,
            attn_dropout_v: 0.2,
            attn_dropouts: None,
            relu_dropout: 0.2,
            embed_dropout: 0.2,
            res_dropout: 0.2,
            output_dropout: 0.2,
            text_dropout: 0.2,
            num_prototypes: 6,
            gmm_em_iters: 5,
            gmm_var_floor: 1e-4,
            lambda_ot: 0.1,
            ot_num_iters: 50,
            hetero_cost_reduction: CostReduction::Mean,
            local_proto_mahalanobis: false,
            pde_dim: None,
            mmd_bandwidth: 1.0,
            task_loss: TaskLoss::Mae,
            smooth_l1_beta: 1.0,
            class_weight: ClassWeight::None,
            binary_task_weight: 0.0,
            without: Vec::new(),
            dec_loss_weight: 1.0,
            alpha: 0.05,
            beta: 0.05,
            ct_weight: 0.0,
            ct_temperature: 0.1,
            seed: 1,
            batch_size: 32,
            num_epochs: 30,
            learning_rate: 1e-3,
            bert_learning_rate: None,
            weight_decay: 0.005,
            clip: 0.6,
            factor: 0.1,
            scheduler_patience: 5,
            scheduler_metric: None,
            scheduler_mode: None,
            early_stop_patience: 10,
            selection_metric: None,
            selection_mode: None,
        }
    }
}
