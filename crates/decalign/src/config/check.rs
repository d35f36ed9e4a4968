//! Whether the values of keys are within their ranges.

use super::{Config, ModelConfig, TrainMode};
use crate::{Error, Result};

impl Config {
    pub(super) fn check_ranges(&self) -> Result<()> {
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
