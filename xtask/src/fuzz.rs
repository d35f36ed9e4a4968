//! Fuzzing what reads files.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{call, described, root};

/// The targets, and which files start them off.
const TARGETS: [(&str, &str, &str); 4] = [
    (
        "pickle",
        "crates/decalign-data/tests/fixtures/pickle",
        "pkl",
    ),
    ("npy", "", ""),
    (
        "container",
        "crates/decalign-data/tests/fixtures",
        "safetensors",
    ),
    ("config", "crates/decalign/presets", "json"),
];

/// Runs every target for some seconds; 512 MB and 5 s an input are the most it may take.
pub(crate) fn run(seconds: &str) -> Result<(), String> {
    if seconds.parse::<u32>().is_err() {
        return Err(format!("--seconds {seconds}: expected a whole number"));
    }
    let folder = root().join("crates/decalign-data/fuzz");
    for (target, seeds, extension) in TARGETS {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).map_err(|error| described(&corpus, &error))?;
        if !seeds.is_empty() {
            copy(&root().join(seeds), &corpus, extension)?;
        }
        let limit = format!("-max_total_time={seconds}");
        let arguments = [
            "+nightly",
            "fuzz",
            "run",
            "--fuzz-dir",
            ".",
            target,
            "--",
            &limit,
            "-rss_limit_mb=512",
            "-malloc_limit_mb=256",
            "-timeout=5",
            "-print_final_stats=1",
        ];
        // Not the cargo that runs this: rustup's takes the toolchain as an argument.
        let mut command = Command::new("cargo");
        command
            .args(arguments)
            .env_remove("RUSTUP_TOOLCHAIN")
            .current_dir(&folder);
        let remedy = "rustup toolchain install nightly; cargo install cargo-fuzz";
        call(
            &mut command,
            &format!("cargo {}", arguments.join(" ")),
            remedy,
        )
        .map_err(|message| format!("{message}; it needs: {remedy}"))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, extension: &str) -> Result<(), String> {
    let entries = fs::read_dir(from).map_err(|error| described(from, &error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == extension)
            && let Some(name) = path.file_name()
        {
            fs::copy(&path, to.join(name)).map_err(|error| described(&path, &error))?;
        }
    }
    Ok(())
}
