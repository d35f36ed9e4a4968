//! Checks of values that no data could make right.

use decalign_ot::CELL_LIMIT;

use super::key::Declared;
use super::keys::DECLARED;
use super::{Config, ModelConfig, TrainMode, parameter_key};
use crate::{Error, Result};

impl Config {
    /// Checks the range of every key, and keys against one another.
    ///
    /// # Errors
    /// When a value is out of its range; the message names the key.
    pub fn check_ranges(&self) -> Result<()> {
        let (width, heads) = self.dst_feature_dim_nheads;
        if heads == 0 || width == 0 || width % heads != 0 {
            let message = format!("width {width} is not a positive multiple of {heads} heads");
            return Err(Error::config("dst_feature_dim_nheads", message));
        }
        self.check_declared()?;
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

    /// Checks the declared range of every key.
    fn check_declared(&self) -> Result<()> {
        let (values, defaults) = (self.to_value()?, Self::default().to_value()?);
        for Declared { name, range, .. } in DECLARED {
            // JSON has no NaN and no infinity: such a number reads as null where no value may be absent.
            let checked = match values[name].is_null() && !defaults[name].is_null() {
                true => Err("is not a finite number".to_owned()),
                false => range.check_value(&values[name]),
            };
            checked.map_err(|message| Error::config(name, message))?;
        }
        Ok(())
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
