//! Files of trained models: one safetensors file holds everything that prediction needs.
//!
//! Tensors carry the names of upstream's state dict, so the file is also a plain file of
//! weights. Its header holds one entry, `decalign`: the configuration as resolved, the
//! standardisation, the names of the classes, and a checksum of the whole file, as JSON.

mod seal;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_data::{Standardizer, write_atomic};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use seal::{seal, verify};
pub(crate) use weights::from_buffer;
pub use weights::read_tensors;

use crate::config::Config;
use crate::model::DecAlign;
use crate::{Error, Result};

/// The key of the header's entry.
const KEY: &str = "decalign";
/// The newest version of the format that this crate reads, and the one it writes.
const VERSION: u32 = 1;

/// A trained model: configuration, preprocessing and weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The configuration, with modalities, widths and task filled in.
    pub config: Config,
    /// The standardisation of the features.
    pub standardizer: Option<Standardizer>,
    /// The names of the classes; none for scores.
    pub classes: Vec<String>,
    /// The parameters by name.
    pub weights: BTreeMap<String, Tensor>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    config: Config,
    standardizer: Option<Standardizer>,
    classes: Vec<String>,
    /// Files of other programs need not have one.
    #[serde(default, skip_serializing, rename = "checksum")]
    _checksum: Option<String>,
}

impl Checkpoint {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let header = Header {
            version: VERSION,
            config: self.config.clone(),
            standardizer: self.standardizer.clone(),
            classes: self.classes.clone(),
            _checksum: None,
        };
        let header = serde_json::to_value(&header).map_err(|error| Error::file(path, error))?;
        let Value::Object(header) = header else {
            return Err(Error::file(path, "its header is no JSON object"));
        };
        let bytes = seal(path, &self.weights, KEY, header)?;
        Ok(write_atomic(path, &bytes)?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a checkpoint of this program, or was damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        verify(path, &bytes)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::file(path, format!("not a safetensors file: {error}")))?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get(KEY))
            .ok_or_else(|| {
                Error::file(
                    path,
                    "not a checkpoint: its header has no \"decalign\" entry",
                )
            })?;
        if text.starts_with("{\"version\":1,\"modalities\":") {
            return Err(Error::file(path, "this is a data set, not a checkpoint"));
        }
        let header: Header = serde_json::from_str(text)
            .map_err(|error| Error::file(path, format!("header \"{KEY}\": {error}")))?;
        if header.version > VERSION {
            let message = format!(
                "version {}, this program reads up to {VERSION}",
                header.version
            );
            return Err(Error::file(path, message));
        }
        if let Some(standardizer) = &header.standardizer {
            standardizer
                .check()
                .map_err(|error| Error::file(path, error))?;
        }
        Ok(Self {
            config: header.config,
            standardizer: header.standardizer,
            classes: header.classes,
            weights: from_buffer(path, &bytes)?,
        })
    }

    /// The model.
    ///
    /// # Errors
    /// When configuration and weights do not fit one another.
    pub fn model(&self, device: &Device) -> Result<DecAlign> {
        let resolved = self.config.resolve_alone()?;
        let dtype = self
            .weights
            .values()
            .next()
            .map_or(DType::F32, Tensor::dtype);
        let model = DecAlign::new(&resolved.model, self.config.seed, dtype, device)?;
        model.parameters().load(&self.weights)?;
        Ok(model)
    }
}
