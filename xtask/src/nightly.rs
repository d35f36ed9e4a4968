//! Checks that take long or need tools beyond Rust: dependencies with cargo-deny, and fuzzing of the file readers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::package;
use crate::process::{call, io_error, root};

/// Fuzz targets, each with the folder and extension of files that its corpus starts with.
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

/// Licences, sources and advisories of the dependencies, then every fuzz target for some seconds.
pub(crate) fn run(seconds: &str) -> Result<(), String> {
    if seconds.parse::<u32>().is_err() {
        return Err(format!("--seconds {seconds}: expected a whole number"));
    }
    let dependencies = deny();
    fuzz(seconds)?;
    dependencies
}

/// `cargo deny` with `.config/deny.toml`; without cargo-deny the licences alone.
fn deny() -> Result<(), String> {
    let installed = Command::new("cargo").args(["deny", "--version"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "cargo-deny is not installed, so only licences are checked, not advisories, bans and sources; \
             install it: cargo install --locked cargo-deny"
        );
        return package::check_licences();
    }
    let check = |checks: &[&str]| {
        let arguments = [&["deny", "check", "--config", ".config/deny.toml"], checks].concat();
        let mut command = Command::new("cargo");
        command.args(&arguments).current_dir(root());
        let line = format!("cargo {}", arguments.join(" "));
        call(&mut command, &line, "install cargo-deny")
    };
    check(&["licenses", "bans", "sources"])?;
    let remedy =
        "without an advisory above, its database could not be fetched: the check needs the network";
    check(&["advisories"]).map_err(|message| format!("{message}; {remedy}"))
}

/// At most 512 MB and 5 s an input.
fn fuzz(seconds: &str) -> Result<(), String> {
    let folder = root().join("crates/decalign-data/fuzz");
    for (target, seeds, extension) in TARGETS {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).map_err(|error| io_error(&corpus, &error))?;
        if !seeds.is_empty() {
            copy(&root().join(seeds), &corpus, extension)?;
        }
        let limit = format!("-max_total_time={seconds}");
        let program = ["+nightly", "fuzz", "run", "--fuzz-dir", ".", target, "--"];
        let limits = ["-rss_limit_mb=512", "-malloc_limit_mb=256", "-timeout=5"];
        let limits = [&limits[..], &[&limit, "-print_final_stats=1"]].concat();
        let arguments = [&program[..], &limits].concat();
        // rustup's cargo, because the toolchain is an argument.
        let mut command = Command::new("cargo");
        command
            .args(&arguments)
            .env_remove("RUSTUP_TOOLCHAIN")
            .current_dir(&folder);
        let remedy = "rustup toolchain install nightly; cargo install cargo-fuzz";
        let line = format!("cargo {}", arguments.join(" "));
        call(&mut command, &line, remedy)
            .map_err(|message| format!("{message}; it needs: {remedy}"))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, extension: &str) -> Result<(), String> {
    let entries = fs::read_dir(from).map_err(|error| io_error(from, &error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == extension)
            && let Some(name) = path.file_name()
        {
            fs::copy(&path, to.join(name)).map_err(|error| io_error(&path, &error))?;
        }
    }
    Ok(())
}
