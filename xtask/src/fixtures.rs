//! Recorded numbers of the PyTorch release.

use std::fs;
use std::path::Path;

use crate::{described, root};

/// Where recorded numbers go: folders to verify and metrics, and standardisation.
pub(crate) fn copy_all(from: &Path) -> Result<(), String> {
    let model = root().join("crates/decalign/tests/fixtures");
    let data = root().join("crates/decalign-data/tests/fixtures");
    let standardise = from.join("standardise/arrays.safetensors");
    copy(&standardise, &data.join("standardise.safetensors"))?;
    let entries = fs::read_dir(from).map_err(|error| described(from, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == "standardise" || !entry.path().is_dir() {
            continue;
        }
        let files = fs::read_dir(entry.path()).map_err(|error| described(from, &error))?;
        for file in files.flatten() {
            copy(&file.path(), &model.join(&name).join(file.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(|error| described(folder, &error))?;
    let content = fs::read(from).map_err(|error| described(from, &error))?;
    fs::write(to, content).map_err(|error| described(to, &error))
}
