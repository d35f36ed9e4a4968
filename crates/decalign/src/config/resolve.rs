//! Resolution of keys into valid settings, checked against a data set once.

use decalign_data::{Dataset, Labels};

use super::{
    Config, ModalityConfig, ModalityKind, ModelConfig, ObjectiveConfig, RegressionLoss, Resolved,
    Semantics, Task, TaskLoss, TrainMode,
};
use crate::{Error, Result};

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
        let tokens = config.token_modality(config.modalities.as_deref().unwrap_or_default())?;
        if let Some(labels) = data.labels() {
            config.fit_labels(labels, data.origin())?;
        }
        let resolved = config.resolve_alone()?;
        let sizes = resolved.model.modalities.iter().zip(data.modalities());
        for (i, (modality, there)) in sizes.enumerate() {
            let ModalityConfig {
                name, kernel_size, ..
            } = modality;
            let steps = match tokens == Some(i) {
                // Three rows of tokens.
                true => there.width(),
                false => there.steps(),
            };
            if steps < *kernel_size {
                let message =
                    format!("{kernel_size} steps for {name}, whose sequences have {steps}");
                return Err(Error::config("conv1d_kernel_sizes", message));
            }
        }
        Ok(resolved)
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
        let text_encoder = config.text_encoder(&names)?;
        config.check_ranges()?;
        let model = ModelConfig {
            text_encoder,
            ..config.model(&names)?
        };
        model.check()?;
        let objective = config.objective();
        Ok(Resolved {
            config,
            model,
            objective,
        })
    }

    /// Takes task and number of classes from the labels, or fails where they differ.
    pub(crate) fn fit_labels(&mut self, labels: &Labels, origin: &str) -> Result<()> {
        let (mode, kind) = match labels {
            Labels::Classes { .. } => (TrainMode::Classification, "classes"),
            _ => (TrainMode::Regression, "scores"),
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
                let key = if names.len() < 2 {
                    "modalities"
                } else {
                    "active_modalities"
                };
                let of = names.join(", ");
                let message = format!("alignment needs two or more, got {active} of {of}");
                return Err(Error::config(key, message));
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
            text_encoder: None,
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
            without: self.without.clone(),
            outputs: match self.train_mode {
                Some(TrainMode::Classification) => self.num_classes.unwrap_or(0),
                _ => 1,
            },
            keys: self.clone(),
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
        let lists = [
            ("active_modalities", &self.active_modalities),
            (
                "feature_standardize_modalities",
                &self.feature_standardize_modalities,
            ),
        ];
        for (key, list) in lists {
            // Upstream settings may name modalities that a run does not use.
            let strict = key == "active_modalities" || self.semantics == Semantics::Native;
            let mut named = list.iter().flatten();
            if let Some(name) = named.find(|name| strict && !names.contains(name)) {
                let message = format!("{name} is none of {}", names.join(", "));
                return Err(Error::config(key, message));
            }
        }
        let modality = |(i, name): (usize, &String)| {
            let (kernel, dropout) = self.by_kind(ModalityKind::of(name));
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

    /// Convolution kernel and attention dropout of a kind of modality; 1 step and the text's dropout for other kinds.
    fn by_kind(&self, kind: ModalityKind) -> (usize, f64) {
        match kind {
            ModalityKind::Text => (self.conv1d_kernel_size_l, self.attn_dropout),
            ModalityKind::Audio => (self.conv1d_kernel_size_a, self.attn_dropout_a),
            ModalityKind::Vision => (self.conv1d_kernel_size_v, self.attn_dropout_v),
            _ => (1, self.attn_dropout),
        }
    }

    fn objective(&self) -> ObjectiveConfig {
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
        ObjectiveConfig {
            task,
            keys: self.clone(),
        }
    }
}
