//! Maintenance of the workspace: checks, fixtures, tools and comparisons; `cargo xtask` prints the commands.

mod config_docs;
mod device;
mod fixtures;
mod minilm;
mod nightly;
mod package;
mod peers;
mod process;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use process::{cargo, root};

const USAGE: &str = "usage: cargo xtask COMMAND

checks
  ci                format, clippy, documentation, packages and tests, as .ci/run does
  package           check that every published crate is ready for crates.io and docs.rs
    --verify          also type-check the packages, unpacked, from their own files
  config-docs       write the table of keys in docs/configuration.md from the code
    --check           fail when the table is stale instead
  nightly           licences and advisories of dependencies, then fuzzing of the file readers
                    (needs cargo-deny, a nightly Rust and cargo-fuzz)
    --seconds N       fuzz each target for N seconds (60)

devices
  cuda-tools        install NVIDIA's compilers into target/cuda-tools (from PyPI)
  device-gates      compile every kernel with NVRTC and ptxas, print registers and spills, run the emulator's tests
  check-features    type-check the program with the feature cuda (ten minutes the first time)
  device-suite      on a machine with a GPU: tests, a short training, and times beside PyTorch

data
  fixtures FOLDER   copy numbers recorded from upstream from FOLDER into the tests (docs/verify.md)
  minilm            install a small text encoder into target/minilm, for tests

comparisons on this machine
  peers encode      sentence embeddings beside transformers
  peers gmm         Gaussian mixtures beside scikit-learn
  peers mmd         kernel MMD beside NumPy recipes and hyppo
  peers ot          optimal transport beside POT and wass
  peers step        a training step and attention beside torch.nn
    --json            print all numbers as JSON
    --rounds N        run all programs N times and take the least values (3)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["ci"] => ci(),
        ["config-docs"] => config_docs::run(false),
        ["config-docs", "--check"] => config_docs::run(true),
        ["package"] => package::run(false),
        ["package", "--verify"] => package::run(true),
        ["nightly"] => nightly::run("60"),
        ["nightly", "--seconds", seconds] => nightly::run(seconds),
        ["fixtures", folder] => fixtures::copy_all(Path::new(folder)),
        ["cuda-tools"] => device::install_cuda_tools(&root()).map(drop),
        ["device-gates"] => device::check_kernels(&root()),
        ["check-features"] => device::check_features(&root()),
        ["device-suite"] => device::run_suite(&root()),
        ["minilm"] => minilm::install(&root()),
        ["peers", name, options @ ..] => peers::run(name, options),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// All checks of a commit, the cheapest first.
fn ci() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    package::run(false)?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    cargo(&clippy, &[])?;
    let flags = [("RUSTDOCFLAGS", "-D warnings")];
    cargo(&["doc", "--workspace", "--no-deps"], &flags)?;
    cargo(&["test", "--workspace"], &[])
}
