//! Every configuration key: meaning, type, default and range. `cargo xtask config-docs` writes the page from here.

use decalign_text::BertConfig;
use serde::{Deserialize, Serialize};

use super::key::{Declared, KeyType, Range};
use crate::metrics::Goal;

/// Declares an enum whose values are written as the given words.
macro_rules! choices {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $meaning:literal])+ $value:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[doc = $meaning])+ #[serde(rename = $word)] $value,)+
        }

        impl KeyType for $name {
            fn values() -> String {
                [$(concat!("`", $word, "`")),+].join(", ")
            }
        }
    };
}

choices! {
    /// How the alignment is computed; see `docs/architecture.md`.
    Semantics {
        /// Number for number the upstream PyTorch code: exactly three modalities are aligned.
        Reference = "reference",
        /// Recommended: any number of modalities, log-domain transport to a tolerance, masks respected.
        Native = "native",
    }
}

choices! {
    /// The kind of prediction.
    TrainMode {
        /// A score.
        Regression = "regression",
        /// A class.
        Classification = "classification",
    }
}

choices! {
    /// The task loss of regression.
    TaskLoss {
        /// Mean absolute error.
        Mae = "mae",
        /// Mean squared error.
        Mse = "mse",
        /// Squared below `smooth_l1_beta`, absolute above.
        SmoothL1 = "smooth_l1",
    }
}

choices! {
    /// Weights of the classes in the cross-entropy.
    ClassWeight {
        /// Equal weights.
        None = "none",
        /// `N / (count * classes)` of the training part.
        Balanced = "balanced",
    }
}

choices! {
    /// A part of the method that a run can leave out, as the paper's ablations do.
    Component {
        /// Unique and common parts; without it both are the projected features and `L_dec` is 0.
        Decoupling = "decoupling",
        /// The whole of `L_hete`.
        Heterogeneous = "heterogeneous",
        /// The whole of `L_homo`.
        Homogeneous = "homogeneous",
        /// The transport between prototypes in `L_hete`; the cost of samples to prototypes stays.
        PrototypeOt = "prototype_ot",
        /// The supervised contrastive loss.
        Contrastive = "contrastive",
        /// Moment matching in `L_homo`.
        Moments = "moments",
        /// MMD in `L_homo`.
        Mmd = "mmd",
    }
}

choices! {
    /// The reduction of a cost over feature dimensions.
    CostReduction {
        /// Mean over dimensions.
        Mean = "mean",
        /// Sum over dimensions.
        Sum = "sum",
    }
}

impl KeyType for Goal {
    fn values() -> String {
        "`min`, `max`".to_owned()
    }
}

/// Declares [`Config`], its defaults and the descriptions of its keys: `name: type = default, range;`.
macro_rules! config {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $range:ident;)+) => {
        /// Every key of a configuration file. Fields have the names of the keys.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Config {
            /// Native semantics with moderate sizes: a start for other data.
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        pub(super) const DECLARED: &[Declared] = &[$(Declared {
            name: stringify!($name),
            meaning: concat!($($doc),+),
            values: <$type as KeyType>::values,
            range: Range::$range,
        },)+];
    };
}

config! {
    /// The benchmark, and with it the metrics: `mosi`, `mosei`, `sims`, `iemocap`, or any other name.
    dataset_name: String = "custom".to_owned(), Any;
    /// How the alignment is computed: number for number as the upstream code, or as this project recommends.
    semantics: Semantics = Semantics::Native, Any;
    /// The modalities to use, in order; all of the data when absent.
    modalities: Option<Vec<String>> = None, Any;
    /// The modalities that take part; all when absent. The features of the others are zeros.
    active_modalities: Option<Vec<String>> = None, Any;
    /// Features per step of each modality. A data set overrides it.
    feature_dims: Option<Vec<usize>> = None, Count;
    /// The split of the data; its only or default one when absent.
    split: Option<String> = None, Any;
    /// Replace NaN and infinities in features by 0 instead of stopping.
    replace_non_finite: bool = false, Any;
    /// Clip and z-score features by the training part.
    need_feature_standardized: bool = true, Any;
    /// The modalities to standardise; all when absent.
    feature_standardize_modalities: Option<Vec<String>> = None, Any;
    /// The percentiles to clip features to before standardising; no clipping when absent.
    feature_clip_percentiles: Option<(f64, f64)> = None, Any;
    /// Take text as BERT tokens and make a text encoder part of the model.
    use_bert: bool = false, Any;
    /// The folder of the text encoder that training starts from.
    pretrained: Option<String> = None, Any;
    /// The sizes of the text encoder, as in its `config.json`; those of the folder when absent.
    bert_config: Option<BertConfig> = None, Any;
    /// Train the text encoder; it is frozen when false.
    use_finetune: bool = true, Any;
    /// Number of the text encoder's first layers that stay frozen, with its embeddings; all layers train when absent.
    bert_frozen_layers: Option<usize> = None, Any;

    /// The kind of prediction; that of the labels when absent.
    train_mode: Option<TrainMode> = None, Any;
    /// The number of classes, at least 2; that of the data when absent.
    num_classes: Option<usize> = None, Any;

    /// Model width d and number of attention heads; d is a multiple of the heads.
    dst_feature_dim_nheads: (usize, usize) = (48, 4), Count;
    /// Layers of each cross-modal encoder.
    nlevels: usize = 4, Count;
    /// Convolution kernel of the text modality.
    conv1d_kernel_size_l: usize = 1, Count;
    /// Convolution kernel of the audio modality.
    conv1d_kernel_size_a: usize = 1, Count;
    /// Convolution kernel of the vision modality.
    conv1d_kernel_size_v: usize = 1, Count;
    /// Convolution kernels of all modalities in order; overrides the three above.
    conv1d_kernel_sizes: Option<Vec<usize>> = None, Count;
    /// Attend to the other modalities; each modality attends to itself when false.
    use_cross_modal_attention: bool = true, Any;
    /// Causal mask in self-attention.
    attn_mask: bool = true, Any;
    /// Leave padded steps out in reference semantics; native semantics always does where lengths are known.
    use_sequence_mask: bool = false, Any;
    /// Dropout of attention weights, text modality.
    attn_dropout: f64 = 0.2, Probability;
    /// Dropout of attention weights, audio modality.
    attn_dropout_a: f64 = 0.2, Probability;
    /// Dropout of attention weights, vision modality.
    attn_dropout_v: f64 = 0.2, Probability;
    /// Dropout of attention weights of all modalities in order; overrides the three above.
    attn_dropouts: Option<Vec<f64>> = None, Probability;
    /// Dropout inside feed-forward blocks.
    relu_dropout: f64 = 0.2, Probability;
    /// Dropout of encoder inputs.
    embed_dropout: f64 = 0.2, Probability;
    /// Dropout before residual sums.
    res_dropout: f64 = 0.2, Probability;
    /// Dropout before the prediction.
    output_dropout: f64 = 0.2, Probability;
    /// Dropout of text features.
    text_dropout: f64 = 0.2, Probability;

    /// Gaussian prototypes per modality, K; at most `batch_size`.
    num_prototypes: usize = 6, Count;
    /// Iterations of EM.
    gmm_em_iters: usize = 5, Count;
    /// Lower bound of the prototypes' variances.
    gmm_var_floor: f64 = 1e-4, Positive;
    /// Entropic regularisation of the transport, epsilon.
    lambda_ot: f64 = 0.1, Positive;
    /// Sinkhorn sweeps; at most this many in native semantics.
    ot_num_iters: usize = 50, Count;
    /// Reduction of prototype costs over dimensions.
    hetero_cost_reduction: CostReduction = CostReduction::Mean, Any;
    /// Divide the cost of a sample to a prototype by the prototype's variances.
    local_proto_mahalanobis: bool = false, Any;
    /// Width of the distribution features; d when absent.
    pde_dim: Option<usize> = None, Count;
    /// Variance of the Gaussian kernel of the MMD.
    mmd_bandwidth: f64 = 1.0, Positive;

    /// The loss of regression.
    task_loss: TaskLoss = TaskLoss::Mae, Any;
    /// Where the smooth L1 loss turns from squared to absolute.
    smooth_l1_beta: f64 = 1.0, Positive;
    /// Weights of classes in the cross-entropy.
    class_weight: ClassWeight = ClassWeight::None, Any;
    /// Weight of the loss of the sign, in regression.
    binary_task_weight: f64 = 0.0, NotNegative;
    /// Parts of the method to leave out.
    without: Vec<Component> = Vec::new(), Any;
    /// Weight of the decoupling loss.
    dec_loss_weight: f64 = 1.0, NotNegative;
    /// Weight of the heterogeneous alignment.
    alpha: f64 = 0.05, NotNegative;
    /// Weight of the homogeneous alignment.
    beta: f64 = 0.05, NotNegative;
    /// Weight of the contrastive loss.
    ct_weight: f64 = 0.0, NotNegative;
    /// Temperature of the contrastive loss.
    ct_temperature: f64 = 0.1, Positive;

    /// Seed of initial weights, the order of batches, and dropout.
    seed: u64 = 1, Any;
    /// Samples per batch, at least 2; the last batch of an epoch may be smaller.
    batch_size: usize = 32, Any;
    /// Maximum number of passes over the training part.
    num_epochs: usize = 30, Count;
    /// Learning rate of Adam.
    learning_rate: f64 = 1e-3, Positive;
    /// Learning rate of the text encoder; `learning_rate` when absent.
    bert_learning_rate: Option<f64> = None, Positive;
    /// L2 weight decay, added to the gradient.
    weight_decay: f64 = 0.005, NotNegative;
    /// Maximum norm of all gradients together.
    clip: f64 = 0.6, Positive;
    /// Factor of the learning rate on a plateau.
    factor: f64 = 0.1, Factor;
    /// Epochs without improvement before the learning rate falls.
    scheduler_patience: usize = 5, Any;
    /// The metric that decides the learning rate; the validation loss when absent, `loss`, or the data set's name.
    scheduler_metric: Option<String> = None, Any;
    /// Whether smaller or larger is better; known for known metrics when absent.
    scheduler_mode: Option<Goal> = None, Any;
    /// Epochs after the best one before training stops.
    early_stop_patience: usize = 10, Any;
    /// The metric that decides the best epoch; the validation loss when absent, `loss`, or the data set's name.
    selection_metric: Option<String> = None, Any;
    /// Whether smaller or larger is better; known for known metrics when absent.
    selection_mode: Option<Goal> = None, Any;
}
