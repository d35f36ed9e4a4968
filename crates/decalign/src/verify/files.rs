//! The files of a folder to verify.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use decalign_data::Sequence;

use super::VerifySettings;
use crate::checkpoint::read_tensors;
use crate::config::{Config, Resolved};
use crate::model::DecAlign;
use crate::{Error, ErrorKind, Result};

/// A folder, read and checked.
pub(super) struct Fixture {
    pub(super) settings: Resolved,
    pub(super) dtype: DType,
    pub(super) sequences: Vec<Sequence>,
    pub(super) labels: Tensor,
    pub(super) expected: BTreeMap<String, Tensor>,
    weights: (PathBuf, BTreeMap<String, Tensor>),
}

impl Fixture {
    pub(super) fn open(folder: &Path, settings: &VerifySettings) -> Result<Self> {
        let config_file = folder.join("config.json");
        let mut config = Config::open(&config_file)?;
        without_dropout(&mut config);
        let resolved = config.resolve_alone().map_err(|error| match error.kind() {
            ErrorKind::Unsupported => {
                Error::unsupported(format!("{}: {error}", config_file.display()))
            }
            _ => Error::file(&config_file, error),
        })?;
        let path = settings
            .weights
            .clone()
            .unwrap_or_else(|| default_weights(folder));
        let weights = read_tensors(&path)?;
        let dtype = match (settings.dtype, weights.values().next().map(Tensor::dtype)) {
            (Some(dtype @ (DType::F32 | DType::F64)), _) | (None, Some(dtype @ DType::F64)) => {
                dtype
            }
            (Some(other), _) => {
                return Err(Error::invalid(format!(
                    "cannot verify in {other:?}: f32 or f64"
                )));
            }
            _ => DType::F32,
        };
        let batch_file = folder.join("batch.safetensors");
        let batch = read_tensors(&batch_file)?;
        let find = |name: &str| -> Result<Tensor> {
            let tensor = batch
                .get(name)
                .ok_or_else(|| Error::file(&batch_file, format!("{name}: missing")))?;
            Ok(tensor.to_dtype(dtype)?)
        };
        let sequence = |name: &str| -> Result<Sequence> {
            let features = find(name)?;
            match features.rank() {
                3 => Ok(Sequence::new(features, None)),
                _ => Err(Error::file(
                    &batch_file,
                    format!("{name}: expected (B, T, D), got {:?}", features.dims()),
                )),
            }
        };
        let names = resolved.model.modalities.iter().map(|m| m.name.as_str());
        Ok(Self {
            sequences: names.map(sequence).collect::<Result<_>>()?,
            labels: find("labels")?,
            expected: read_tensors(folder.join("expected.safetensors"))?,
            settings: resolved,
            dtype,
            weights: (path, weights),
        })
    }

    /// A model with the folder's weights.
    pub(super) fn model(&self) -> Result<DecAlign> {
        let model = DecAlign::new(&self.settings.model, 0, self.dtype, &Device::Cpu)?;
        let (path, weights) = &self.weights;
        model
            .parameters()
            .load(weights)
            .map_err(|error| Error::file(path, error))?;
        Ok(model)
    }
}

fn default_weights(folder: &Path) -> PathBuf {
    let pth = folder.join("weights.pth");
    match folder.join("weights.safetensors") {
        path if path.exists() || !pth.exists() => path,
        _ => pth,
    }
}

/// The recorded passes ran without dropout.
fn without_dropout(config: &mut Config) {
    config.attn_dropouts = None;
    if let Some(bert) = &mut config.bert_config {
        (bert.hidden_dropout_prob, bert.attention_probs_dropout_prob) = (0.0, 0.0);
    }
    for p in [
        &mut config.attn_dropout,
        &mut config.attn_dropout_a,
        &mut config.attn_dropout_v,
        &mut config.relu_dropout,
        &mut config.embed_dropout,
        &mut config.res_dropout,
        &mut config.output_dropout,
        &mut config.text_dropout,
    ] {
        *p = 0.0;
    }
}
