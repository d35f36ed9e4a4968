//! From keys to valid settings of a model and an objective, checked once.

use decalign_data::{Dataset, Labels};

use super::{ClassWeight, Config, CostReduction, Semantics, TaskLoss, TrainMode};
use crate::metrics::Benchmark;
use crate::{Error, Result};

/// One modality of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModalityConfig {
    /// The name.
    pub name: String,
    /// Features a step, D.
    pub width: usize,
    /// Steps that the convolution looks at.
    pub kernel_size: usize,
    /// Dropout of attention weights.
    pub attention_dropout: f64,
    /// Whether it takes part; if not, it is zeros.
    pub active: bool,
}

/// What a model is built from.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The release's mathematics or this project's.
    pub semantics: Semantics,
    /// The modalities, in order.
    pub modalities: Vec<ModalityConfig>,
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
    /// Numbers the model predicts: 1, or one a class.
    pub outputs: usize,
}

/// The loss of regression.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// What is predicted, and its loss.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// What an objective is built from.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveConfig {
    /// The task and its loss.
    pub task: Task,
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
    /// Weight of the loss of the sign, in regression.
    pub binary_task_weight: f64,
}

/// A configuration that fits its data: what was left open is filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// All keys, with modalities, widths and task as they are.
    pub config: Config,
    /// For the model.
    pub model: ModelConfig,
    /// For the objective.
    pub objective: ObjectiveConfig,
}

impl Resolved {
    /// The figures that predictions are judged by.
    pub fn benchmark(&self) -> Benchmark {
        let mode = self.config.train_mode.unwrap_or(TrainMode::Regression);
        Benchmark::of(&self.config.dataset_name, mode, self.model.outputs)
    }
}

impl Config {
    /// Checks the configuration against a data set whose modalities are those to use.
    ///
    /// # Errors
    /// When a key's value is out of range or does not fit the data; the message names the key.
    pub fn resolve(&self, data: &Dataset) -> Result<Resolved> {
        let mut config = self.clone();
        let names = data
            .modalities()
            .iter()
            .map(|m| m.name().to_owned())
            .collect();
        config.modalities = Some(names);
        config.feature_dims = Some(data.modalities().iter().map(|m| m.width()).collect());
        if let Some(labels) = data.labels() {
            config.fit_labels(labels, data.origin())?;
        }
        config.resolve_alone()
    }

    /// As [`Config::resolve`], with modalities and widths from the configuration itself: text,
    /// audio and vision unless it names others.
    ///
    /// # Errors
    /// As [`Config::resolve`], and when `feature_dims` is absent.
    pub fn resolve_alone(&self) -> Result<Resolved> {
        let mut config = self.clone();
        let names = config
            .modalities
            .get_or_insert_with(|| ["text", "audio", "vision"].map(str::to_owned).to_vec());
        let names = names.clone();
        config.train_mode.get_or_insert(TrainMode::Regression);
        config.check_ranges()?;
        let model = config.model(&names)?;
        let objective = config.objective()?;
        Ok(Resolved {
            config,
            model,
            objective,
        })
    }

    /// Takes task and number of classes from the labels, or fails where they differ.
    pub(crate) fn fit_labels(&mut self, labels: &Labels, origin: &str) -> Result<()> {
        let (mode, kind) = match labels {
            Labels::Scores(_) => (TrainMode::Regression, "scores"),
            Labels::Classes { .. } => (TrainMode::Classification, "classes"),
        };
        if *self.train_mode.get_or_insert(mode) != mode {
            let message = format!("does not fit the labels of {origin}, which are {kind}");
            return Err(Error::config("train_mode", message));
        }
        if mode == TrainMode::Classification {
            let (there, names) = (labels.names().len(), labels.names());
            let classes = *self.num_classes.get_or_insert(there);
            if classes < there {
                let message = format!(
                    "is {classes}, but the labels of {origin} go up to class {} ({} classes)",
                    names[there - 1],
                    there
                );
                return Err(Error::config("num_classes", message));
            }
        }
        Ok(())
    }

    fn model(&self, names: &[String]) -> Result<ModelConfig> {
        let modalities = self.modality_configs(names)?;
        let active = modalities.iter().filter(|m| m.active).count();
        match self.semantics {
            Semantics::Reference if names.len() != 3 => {
                let message = format!(
                    "reference takes exactly three modalities, not {} ({}); set semantics=native",
                    names.len(),
                    names.join(", ")
                );
                return Err(Error::config("semantics", message));
            }
            Semantics::Native if active < 2 => {
                let message = format!(
                    "{active} of {} modalities, but alignment needs two",
                    names.join(", ")
                );
                return Err(Error::config("active_modalities", message));
            }
            _ if active == 0 => {
                return Err(Error::config(
                    "active_modalities",
                    "none: at least one is needed",
                ));
            }
            _ => {}
        }
        let (width, heads) = self.dst_feature_dim_nheads;
        Ok(ModelConfig {
            semantics: self.semantics,
            modalities,
            width,
            heads,
            layers: self.nlevels,
            prototypes: self.num_prototypes,
            em_iterations: self.gmm_em_iters,
            variance_floor: self.gmm_var_floor,
            transport_epsilon: self.lambda_ot,
            transport_iterations: self.ot_num_iters,
            cost_reduction: self.hetero_cost_reduction,
            local_mahalanobis: self.local_proto_mahalanobis,
            distribution_width: self.pde_dim.unwrap_or(width),
            mmd_bandwidth: self.mmd_bandwidth,
            embed_dropout: self.embed_dropout,
            relu_dropout: self.relu_dropout,
            residual_dropout: self.res_dropout,
            output_dropout: self.output_dropout,
            text_dropout: self.text_dropout,
            cross_modal_attention: self.use_cross_modal_attention,
            causal_mask: self.attn_mask,
            sequence_mask: self.use_sequence_mask,
            outputs: match self.train_mode {
                Some(TrainMode::Classification) => self.num_classes.unwrap_or(0),
                _ => 1,
            },
        })
    }

    fn modality_configs(&self, names: &[String]) -> Result<Vec<ModalityConfig>> {
        let count = |key: &str, list: usize| match list == names.len() {
            true => Ok(()),
            false => {
                let message = format!(
                    "{list} entries for {} modalities ({})",
                    names.len(),
                    names.join(", ")
                );
                Err(Error::config(key, message))
            }
        };
        let widths = self.feature_dims.as_ref().ok_or_else(|| {
            Error::config(
                "feature_dims",
                "not given: it says how many features a step each modality has",
            )
        })?;
        count("feature_dims", widths.len())?;
        if let Some(kernels) = &self.conv1d_kernel_sizes {
            count("conv1d_kernel_sizes", kernels.len())?;
        }
        if let Some(dropouts) = &self.attn_dropouts {
            count("attn_dropouts", dropouts.len())?;
        }
        for name in self.active_modalities.iter().flatten() {
            if !names.contains(name) {
                let message = format!("{name} is none of {}", names.join(", "));
                return Err(Error::config("active_modalities", message));
            }
        }
        let modality = |(i, name): (usize, &String)| {
            let (kernel, dropout) = self.by_kind(name);
            ModalityConfig {
                name: name.clone(),
                width: widths[i],
                kernel_size: self
                    .conv1d_kernel_sizes
                    .as_ref()
                    .map_or(kernel, |list| list[i]),
                attention_dropout: self.attn_dropouts.as_ref().map_or(dropout, |list| list[i]),
                active: self
                    .active_modalities
                    .as_ref()
                    .is_none_or(|list| list.contains(name)),
            }
        };
        Ok(names.iter().enumerate().map(modality).collect())
    }

    /// Kernel and attention dropout of a modality whose name begins with text, audio or vision;
    /// of any other, 1 step and the text's dropout.
    fn by_kind(&self, name: &str) -> (usize, f64) {
        let is = |kind: &str| name.starts_with(kind);
        if is("text") {
            (self.conv1d_kernel_size_l, self.attn_dropout)
        } else if is("audio") {
            (self.conv1d_kernel_size_a, self.attn_dropout_a)
        } else if is("vision") {
            (self.conv1d_kernel_size_v, self.attn_dropout_v)
        } else {
            (1, self.attn_dropout)
        }
    }

    fn objective(&self) -> Result<ObjectiveConfig> {
        let task = match self.train_mode {
            Some(TrainMode::Classification) => Task::Classification {
                classes: self.num_classes.unwrap_or(0),
                class_weight: self.class_weight,
            },
            _ => Task::Regression(match self.task_loss {
                TaskLoss::Mae => RegressionLoss::Mae,
                TaskLoss::Mse => RegressionLoss::Mse,
                TaskLoss::SmoothL1 => RegressionLoss::SmoothL1 {
                    beta: self.smooth_l1_beta,
                },
            }),
        };
        Ok(ObjectiveConfig {
            task,
            dec_loss_weight: self.dec_loss_weight,
            alpha: self.alpha,
            beta: self.beta,
            ct_weight: self.ct_weight,
            ct_temperature: self.ct_temperature,
            binary_task_weight: self.binary_task_weight,
        })
    }

    fn check_ranges(&self) -> Result<()> {
        let (width, heads) = self.dst_feature_dim_nheads;
        if heads == 0 || width == 0 || width % heads != 0 {
            let message = format!("width {width} is not a positive multiple of {heads} heads");
            return Err(Error::config("dst_feature_dim_nheads", message));
        }
        let counts = [
            ("nlevels", Some(self.nlevels)),
            ("conv1d_kernel_size_l", Some(self.conv1d_kernel_size_l)),
            ("conv1d_kernel_size_a", Some(self.conv1d_kernel_size_a)),
            ("conv1d_kernel_size_v", Some(self.conv1d_kernel_size_v)),
            (
                "conv1d_kernel_sizes",
                self.conv1d_kernel_sizes.iter().flatten().min().copied(),
            ),
            (
                "feature_dims",
                self.feature_dims.iter().flatten().min().copied(),
            ),
            ("num_prototypes", Some(self.num_prototypes)),
            ("gmm_em_iters", Some(self.gmm_em_iters)),
            ("ot_num_iters", Some(self.ot_num_iters)),
            ("pde_dim", self.pde_dim),
            ("num_epochs", Some(self.num_epochs)),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
            return Err(Error::config(key, "is 0, must be at least 1"));
        }
        self.check_dropouts()?;
        self.check_numbers()?;
        let classes = self.num_classes.unwrap_or(0);
        if self.train_mode == Some(TrainMode::Classification) && classes < 2 {
            return Err(Error::config(
                "num_classes",
                format!("is {classes}, classification needs at least 2"),
            ));
        }
        if self.batch_size < 2 {
            let message = format!(
                "is {}, but alignment compares samples of a batch: at least 2",
                self.batch_size
            );
            return Err(Error::config("batch_size", message));
        }
        if self.batch_size < self.num_prototypes {
            let message = format!(
                "is {}, more than the {} samples of a batch; lower it or raise batch_size",
                self.num_prototypes, self.batch_size
            );
            return Err(Error::config("num_prototypes", message));
        }
        Ok(())
    }

    fn check_dropouts(&self) -> Result<()> {
        let one = [
            ("attn_dropout", self.attn_dropout),
            ("attn_dropout_a", self.attn_dropout_a),
            ("attn_dropout_v", self.attn_dropout_v),
            ("relu_dropout", self.relu_dropout),
            ("embed_dropout", self.embed_dropout),
            ("res_dropout", self.res_dropout),
            ("output_dropout", self.output_dropout),
            ("text_dropout", self.text_dropout),
        ];
        let many = self
            .attn_dropouts
            .iter()
            .flatten()
            .map(|p| ("attn_dropouts", *p));
        match one
            .into_iter()
            .chain(many)
            .find(|(_, p)| !(0.0..1.0).contains(p))
        {
            Some((key, p)) => Err(Error::config(
                key,
                format!("is {p}, must be a probability below 1"),
            )),
            None => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<()> {
        let positive = [
            ("gmm_var_floor", self.gmm_var_floor),
            ("lambda_ot", self.lambda_ot),
            ("mmd_bandwidth", self.mmd_bandwidth),
            ("smooth_l1_beta", self.smooth_l1_beta),
            ("ct_temperature", self.ct_temperature),
            ("learning_rate", self.learning_rate),
            ("bert_learning_rate", self.bert_learning_rate.unwrap_or(1.0)),
            ("clip", self.clip),
            ("factor", self.factor),
        ];
        if self.factor > 1.0 {
            return Err(Error::config(
                "factor",
                format!("is {}, must be at most 1", self.factor),
            ));
        }
        if let Some((key, v)) = positive
            .into_iter()
            .find(|(_, v)| !(*v > 0.0 && v.is_finite()))
        {
            return Err(Error::config(key, format!("is {v}, must be positive")));
        }
        let weights = [
            ("binary_task_weight", self.binary_task_weight),
            ("dec_loss_weight", self.dec_loss_weight),
            ("alpha", self.alpha),
            ("beta", self.beta),
            ("ct_weight", self.ct_weight),
            ("weight_decay", self.weight_decay),
        ];
        match weights
            .into_iter()
            .find(|(_, v)| !(*v >= 0.0 && v.is_finite()))
        {
            Some((key, v)) => Err(Error::config(key, format!("is {v}, must be 0 or positive"))),
            None => Ok(()),
        }
    }
}

/// Fails when the training part cannot fill the prototypes.
///
/// # Errors
/// When it has fewer samples than there are prototypes, or than two.
pub fn check_batches(config: &ModelConfig, training_samples: usize) -> Result<()> {
    if training_samples < config.prototypes.max(2) {
        let message = format!(
            "is {}, but the training part has {training_samples} samples; lower it or add data",
            config.prototypes
        );
        return Err(Error::config("num_prototypes", message));
    }
    Ok(())
}
