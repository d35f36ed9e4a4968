//! Loading the weights of a folder.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use decalign_core::nn::Parameters;

use crate::{Error, Result};

/// The file of the weights.
const FILE: &str = "model.safetensors";

/// The tensors of a folder.
pub(crate) fn tensors(folder: &Path) -> Result<HashMap<String, Tensor>> {
    let path = folder.join(FILE);
    if !path.exists() {
        let message = "not there; convert the weights to safetensors, other formats are not read";
        return Err(Error::file(&path, message));
    }
    candle_core::safetensors::load(&path, &Device::Cpu).map_err(|error| Error::file(&path, error))
}

/// Loads `model.safetensors` of the folder into every parameter whose name begins with `prefix`: the tensor has the rest of the name, with
/// or without `bert.` before it. Those of the pooler may be absent.
///
/// # Errors
/// When the file cannot be read, a tensor is missing or has another shape; no parameter is changed then.
pub fn load_weights(parameters: &Parameters, prefix: &str, folder: impl AsRef<Path>) -> Result<()> {
    let path = folder.as_ref().join(FILE);
    let tensors = tensors(folder.as_ref())?;
    let mut found: Vec<(Var, Tensor)> = Vec::new();
    for (name, var) in parameters.named() {
        let Some(name) = name.strip_prefix(prefix) else {
            continue;
        };
        let Some(tensor) = find(&tensors, name) else {
            if name.starts_with("pooler.") {
                continue;
            }
            let message = format!("{name}: missing; is this the file of a BERT?");
            return Err(Error::file(&path, message));
        };
        if tensor.dims() != var.dims() {
            let (got, want) = (tensor.dims(), var.dims());
            let message = format!("{name}: shape {got:?}, config.json makes it {want:?}");
            return Err(Error::file(&path, message));
        }
        let tensor = tensor.to_dtype(var.dtype())?.to_device(var.device())?;
        found.push((var, tensor));
    }
    for (var, tensor) in found {
        var.set(&tensor)?;
    }
    Ok(())
}

/// A tensor by its name, or by its name in older files.
fn find<'a>(tensors: &'a HashMap<String, Tensor>, name: &str) -> Option<&'a Tensor> {
    let older = match name.rsplit_once("LayerNorm.") {
        Some((scope, "weight")) => format!("{scope}LayerNorm.gamma"),
        Some((scope, _)) => format!("{scope}LayerNorm.beta"),
        None => name.to_owned(),
    };
    [name, &older].iter().find_map(|name| {
        let prefixed = || tensors.get(&format!("bert.{name}"));
        tensors.get(*name).or_else(prefixed)
    })
}
