//! Everything that runs on a device, in one command.

use std::path::Path;
use std::process::Command;

use super::kernel_check::TESTED;
use crate::process::{call, cargo};

/// Programs that time kernels.
const TIMED: [[&str; 4]; 4] = [
    ["-p", "decalign-benches", "--bin", "device_sinkhorn"],
    ["-p", "decalign-benches", "--bin", "device_mmd"],
    ["-p", "decalign-benches", "--bin", "device_em"],
    ["-p", "decalign-benches", "--bin", "device_attention"],
];

/// Device tests on the device, again under compute-sanitizer where it is installed, a short training, and times, beside
/// PyTorch's where this machine's `python3` has it.
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
    let features = ["--release", "--features", feature];
    for package in TESTED {
        let tests = ["test", "-p", package, "--test", "device*"];
        cargo(
            &[&tests[..], &features, &["--", "--nocapture"]].concat(),
            &[],
        )?;
    }
    sanitize(root, feature)?;
    let program = ["run", "-p", "decalign-cli"];
    let train = ["--", "train", "--device", feature, "--epochs", "2"];
    cargo(&[&program[..], &features, &train].concat(), &[])?;
    for preset in ["mosi", "mosei", "sims", "iemocap"] {
        let bench = ["--", "bench", preset, "--device", feature];
        cargo(&[&program[..], &features, &bench].concat(), &[])?;
    }
    for program in TIMED {
        let device = ["--", "--device", feature];
        cargo(&[&["run"][..], &program, &features, &device].concat(), &[])?;
    }
    peer(root, feature)
}

/// The tests again under compute-sanitizer.
fn sanitize(root: &Path, feature: &str) -> Result<(), String> {
    let sanitizer = Command::new("compute-sanitizer").arg("--version").output();
    if feature != "cuda" || sanitizer.is_err() {
        eprintln!("skipped: no compute-sanitizer");
        return Ok(());
    }
    for package in TESTED {
        let mut command = Command::new("compute-sanitizer");
        command.args(["--error-exitcode", "1", "--target-processes", "all"]);
        command.args(["cargo", "test", "--release", "-p", package]);
        command.args(["--features", feature, "--test", "device*"]);
        // No compiler, so the emulator's tests are skipped.
        command.current_dir(root).env("CXX", "none");
        let name = format!("compute-sanitizer, {package}");
        call(&mut command, &name, "it was there")?;
    }
    Ok(())
}

/// PyTorch on the same device.
fn peer(root: &Path, feature: &str) -> Result<(), String> {
    let check = ["-c", "import torch; torch.zeros(1, device='cuda')"];
    let there = Command::new("python3").args(check).output();
    if feature != "cuda" || !there.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no PyTorch for CUDA in python3");
        return Ok(());
    }
    let mut command = Command::new("python3");
    command.arg(root.join("xtask/peers/device.py"));
    command.args(["step", "attention", "transport", "mmd", "keops"]);
    call(&mut command, "device.py", "it was there")
}
