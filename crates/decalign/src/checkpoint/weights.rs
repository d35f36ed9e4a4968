//! Named tensors from files.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// Reads named tensors from a `.safetensors` file or a PyTorch `.pth` (zip format, tensors only).
///
/// # Errors
/// When the file cannot be read, is of another format, or names a tensor twice.
pub fn read_tensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    match extension {
        "safetensors" => {
            let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
            from_buffer(path, &bytes)
        }
        "pth" | "pt" | "bin" => {
            // The reader's own messages do not name the file.
            std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
            let tensors = candle_core::pickle::read_all(path).map_err(|error| {
                Error::file(path, format!("not a zip file of PyTorch tensors: {error}"))
            })?;
            let count = tensors.len();
            let map: BTreeMap<String, Tensor> = tensors.into_iter().collect();
            match map.len() == count && count > 0 {
                true => Ok(map),
                false => Err(Error::file(
                    path,
                    "expected tensors by name, each name once",
                )),
            }
        }
        _ => Err(Error::file(
            path,
            "expected a file named .safetensors or .pth",
        )),
    }
}

/// The tensors of the bytes of a safetensors file; `path` stands in errors.
pub(crate) fn from_buffer(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
        .map_err(|error| Error::file(path, format!("not a safetensors file: {error}")))?;
    Ok(tensors.into_iter().collect())
}
