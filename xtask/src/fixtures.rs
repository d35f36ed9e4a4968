//! Numbers recorded from upstream, the paper's public PyTorch code.

use std::fs;
use std::path::Path;

use crate::process::{io_error, root};

/// Copies the folders of `decalign verify` and of metrics, and the standardisation, into the tests.
pub(crate) fn copy_all(from: &Path) -> Result<(), String> {
    let model = root().join("crates/decalign/tests/fixtures");
    let data = root().join("crates/decalign-data/tests/fixtures");
    let standardise = from.join("standardise/arrays.safetensors");
    copy(&standardise, &data.join("standardise.safetensors"))?;
    let entries = fs::read_dir(from).map_err(|error| io_error(from, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == "standardise" || !entry.path().is_dir() {
            continue;
        }
        let files = fs::read_dir(entry.path()).map_err(|error| io_error(from, &error))?;
        for file in files.flatten() {
            copy(&file.path(), &model.join(&name).join(file.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(|error| io_error(folder, &error))?;
    let content = fs::read(from).map_err(|error| io_error(from, &error))?;
    fs::write(to, content).map_err(|error| io_error(to, &error))
}
