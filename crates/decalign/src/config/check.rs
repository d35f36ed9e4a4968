//! Whether the values of keys are within their ranges.

use decalign_ot::CELL_LIMIT;

use super::{Config, ModelConfig, TrainMode};
use crate::model::parameter_key;
use crate::{Error, Result};

impl Config {
    /// Fails at a key whose value no data could make right.
    ///
    /// # Errors
    /// When a value is out of its range; the message names the key.
    pub fn check_ranges(&self) -> Result<()> {
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

/// Numbers that the parameters of a model may be, 4 GiB of them in f32.
const PARAMETER_LIMIT: f64 = 1e9;

impl ModelConfig {
    /// Fails where a model cannot be built: names that collide, too many parameters, a transport
    /// of too many cells.
    pub(super) fn check(&self) -> Result<()> {
        let keys: Vec<String> = self
            .modalities
            .iter()
            .map(|m| parameter_key(&m.name))
            .collect();
        if let Some(i) = (0..keys.len()).find(|i| keys[..*i].contains(&keys[*i])) {
            let message = format!(
                "two would name their parameters {}; rename {}",
                keys[i], self.modalities[i].name
            );
            return Err(Error::config("modalities", message));
        }
        let (d, count) = (self.width as f64, self.modalities.len() as f64);
        let projections: f64 = self
            .modalities
            .iter()
            .map(|m| m.width as f64 * m.kernel_size as f64 * d)
            .sum();
        let each =
            12.0 * d * d * self.layers as f64 + 2.0 * d * d + d * self.distribution_width as f64;
        let parameters = projections + count * (each + 2.0 * d * self.outputs as f64) + d * d;
        if let Some(encoder) = &self.text_encoder {
            let parameters = encoder.parameters();
            if parameters > PARAMETER_LIMIT {
                let message =
                    format!("has {parameters:.1e} parameters, more than {PARAMETER_LIMIT:.0e}");
                return Err(Error::config("bert_config", message));
            }
        }
        if parameters > PARAMETER_LIMIT {
            let message = format!(
                "a model of width {d} with {} layers and {} outputs has {parameters:.1e} parameters, more than {PARAMETER_LIMIT:.0e}",
                self.layers, self.outputs
            );
            return Err(Error::config("dst_feature_dim_nheads", message));
        }
        let active = self.modalities.iter().filter(|m| m.active).count();
        let cells = (self.prototypes as f64).powi(active as i32);
        if cells > CELL_LIMIT as f64 {
            let message = format!(
                "{} prototypes of {active} modalities are {cells:.1e} cells of the transport, more than {CELL_LIMIT}; lower it",
                self.prototypes
            );
            return Err(Error::config("num_prototypes", message));
        }
        Ok(())
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
