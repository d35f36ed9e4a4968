//! All that waits for a device, in one command.

use std::path::Path;
use std::process::Command;

use super::gates::TESTED;
use crate::{call, cargo};

/// Device tests on the device itself, the same under compute-sanitizer where it is installed, and a training step.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let feature = if cfg!(target_os = "macos") {
        "metal"
    } else {
        "cuda"
    };
    if feature == "cuda" {
        let mut smi = Command::new("nvidia-smi");
        smi.arg("--query-gpu=name,driver_version")
            .arg("--format=csv,noheader");
        call(&mut smi, "nvidia-smi", "this machine has no CUDA device")?;
    }
    for package in TESTED {
        let tests = ["test", "--release", "-p", package, "--features", feature];
        cargo(
            &[&tests[..], &["--test", "device", "--", "--nocapture"]].concat(),
            &[],
        )?;
    }
    let sanitizer = Command::new("compute-sanitizer").arg("--version").output();
    if feature == "cuda" && sanitizer.is_ok() {
        for package in TESTED {
            let mut command = Command::new("compute-sanitizer");
            command.args([
                "--error-exitcode",
                "1",
                "--target-processes",
                "all",
                "cargo",
                "test",
            ]);
            command.args([
                "--release",
                "-p",
                package,
                "--features",
                feature,
                "--test",
                "device",
            ]);
            command.current_dir(root);
            call(
                &mut command,
                &format!("compute-sanitizer, {package}"),
                "it was there",
            )?;
        }
    } else {
        eprintln!("skipped: no compute-sanitizer");
    }
    let program = [
        "run",
        "--release",
        "-p",
        "decalign-cli",
        "--features",
        feature,
        "--",
    ];
    cargo(
        &[
            &program[..],
            &["train", "--device", "auto", "--epochs", "2"],
        ]
        .concat(),
        &[],
    )
}
