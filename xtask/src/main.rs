//! Chores of the workspace: `cargo xtask ci`, `cargo xtask fixtures FOLDER`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask COMMAND

  ci                format, clippy, tests and docs, as .ci/run does
  fixtures FOLDER   copy recorded numbers that the tests need from FOLDER
                    (the output of the PyTorch release, see docs/verify.md)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["ci"] => ci(),
        ["fixtures", folder] => fixtures(Path::new(folder)),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cheapest check first.
fn ci() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    cargo(&["test", "--workspace"], &[])?;
    cargo(
        &["doc", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let line = format!("cargo {}", arguments.join(" "));
    eprintln!("+ {line}");
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{line}: {status}")),
        Err(error) => Err(format!("{line}: {error}")),
    }
}

/// Where recorded numbers go: folders to verify and metrics, and standardisation.
fn fixtures(from: &Path) -> Result<(), String> {
    let model = root().join("crates/decalign/tests/fixtures");
    let data = root().join("crates/decalign-data/tests/fixtures");
    let standardise = from.join("standardise/arrays.safetensors");
    copy(&standardise, &data.join("standardise.safetensors"))?;
    let entries = fs::read_dir(from).map_err(|error| described(from, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        // Token text is not supported yet.
        if name == "standardise" || name == "sims-bert" || !entry.path().is_dir() {
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

fn described(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
