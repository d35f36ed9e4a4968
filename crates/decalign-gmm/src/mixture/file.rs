//! Mixtures in safetensors files.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use decalign_core::{Error, Result};

use super::Mixture;
use crate::covariance::Covariance;

impl Mixture {
    /// Writes tensors `weights`, `means` and `covariances.KIND`, KIND one of full, tied, diag, spherical.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let covariances = format!("covariances.{}", self.kind.name());
        let tensors = HashMap::from([
            ("weights".to_owned(), self.weights.contiguous()?),
            ("means".to_owned(), self.means.contiguous()?),
            (covariances, self.covariances.contiguous()?),
        ]);
        Ok(candle_core::safetensors::save(&tensors, path)?)
    }

    /// Reads a file that [`Mixture::save`] wrote, without gradients.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a tensor, or its tensors are not a mixture (see
    /// [`Mixture::new`]).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let get = |name: &str| -> Result<&Tensor> {
            tensors.get(name).ok_or_else(|| {
                let remedy = format!("{} is not a file that Mixture::save wrote", path.display());
                Error::value(format!("tensor {name}"), "absent", remedy)
            })
        };
        let named = |kind: &Covariance| format!("covariances.{}", kind.name());
        let kind = Covariance::ALL
            .into_iter()
            .find(|kind| tensors.contains_key(&named(kind)))
            .unwrap_or(Covariance::Full);
        Self::new(kind, get("weights")?, get("means")?, get(&named(&kind))?)
    }
}
