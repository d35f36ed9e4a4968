//! Chores of the workspace: `cargo xtask ci`, `cargo xtask nightly`, `cargo xtask fixtures FOLDER`, `cargo xtask minilm`,
//! `cargo xtask peers NAME`.

mod device;
mod fixtures;
mod fuzz;
mod minilm;
mod peers;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask COMMAND

  ci                format, clippy, tests and docs, as .ci/run does
  nightly           fuzz what reads files, 60 s a target (needs a nightly Rust and cargo-fuzz)
    --seconds N       N seconds a target
  fixtures FOLDER   copy recorded numbers that the tests need from FOLDER
                    (the output of the PyTorch release, see docs/verify.md)
  cuda-tools        put NVIDIA's compilers into target/cuda-tools (from the Python index)
  device-gates      every kernel through NVRTC and ptxas (registers, spills), then in the emulator
  check-features    type-check the program built for CUDA (ten minutes the first time)
  device-suite      on a machine with a device: all that waits for one
  minilm            put a small real text encoder into target/minilm, for tests
  peers encode      time sentence embeddings beside transformers on this machine
  peers gmm         time Gaussian mixtures beside scikit-learn on this machine
  peers mmd         time kernel MMD beside NumPy recipes and hyppo on this machine
  peers ot          time optimal transport beside POT and wass on this machine
  peers step        time a training step and attention beside torch.nn on this machine
    --json            all numbers, as JSON
    --rounds N        programs run N times in turn, the least value counts (3)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["ci"] => ci(),
        ["nightly"] => fuzz::run("60"),
        ["nightly", "--seconds", seconds] => fuzz::run(seconds),
        ["fixtures", folder] => fixtures::copy_all(Path::new(folder)),
        ["cuda-tools"] => device::tools(&root()).map(drop),
        ["device-gates"] => device::gates(&root()),
        ["check-features"] => device::check(&root()),
        ["device-suite"] => device::suite(&root()),
        ["minilm"] => minilm::install(&root()),
        ["peers", name, options @ ..] => peers::run(name, options),
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
    cargo(
        &["doc", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    cargo(&["test", "--workspace"], &[])
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root());
    call(
        &mut command,
        &format!("cargo {}", arguments.join(" ")),
        "install Rust",
    )
}

/// Runs a command that has to succeed; `remedy` is for when there is no such program.
fn call(command: &mut Command, line: &str, remedy: &str) -> Result<(), String> {
    eprintln!("+ {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{line}: {status}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{line}: no such program; {remedy}"))
        }
        Err(error) => Err(format!("{line}: {error}")),
    }
}

fn described(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
