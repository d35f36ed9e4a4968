//! Compiles every device program with NVIDIA's compilers, without a device, then runs the emulator's tests.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{fs, str};

use super::cuda_tools;
use crate::process::{call, cargo, io_error};

/// The architectures by their names for NVRTC and for ptxas.
const ARCHITECTURES: [(&str, &str); 2] = [("compute_80", "sm_80"), ("compute_90", "sm_90")];

/// Programs and kernels that may spill some bytes. Sums over tiles of pairs spill values that outlive a tile of 4,096
/// multiply-adds a lane, so that two groups fit a multiprocessor, which is faster (docs/lab/devices.md).
const SPILLS: [(&str, &str, usize); 4] = [
    ("mmd-f32", "sums", 96),
    ("mmd-f64", "sums", 8),
    ("sinkhorn_points-f32", "scan", 64),
    ("sinkhorn_points-f32", "pay", 32),
];

/// Crates with tests of kernels.
pub(super) const TESTED: [&str; 7] = [
    "decalign-core",
    "decalign-decouple",
    "decalign-fusion",
    "decalign-gmm",
    "decalign-mmd",
    "decalign-ot",
    "decalign",
];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let home = cuda_tools::install(root)?;
    let folder = root.join("target/device-sources");
    let _ = fs::remove_dir_all(&folder);
    let path = folder.display().to_string();
    let test = ["test", "-p", "decalign", "--test", "device_sources"];
    cargo(&test, &[("DECALIGN_DEVICE_SOURCES", &path)])?;
    let script = root.join("xtask/device/nvrtc.py");
    let mut table = String::from(
        "| program | kernel | registers sm_80 | sm_90 | spilled bytes | shared bytes |\n|---|---|---|---|---|---|\n",
    );
    for (virtual_name, _) in ARCHITECTURES {
        let mut command = Command::new("python3");
        command.arg(&script).arg(home.join("lib/libnvrtc.so.13"));
        command.arg(virtual_name).arg(&folder);
        call(
            &mut command,
            &format!("nvrtc for {virtual_name}"),
            "install Python 3",
        )?;
    }
    let mut spills = Vec::new();
    for title in titles(&folder)? {
        let each = ARCHITECTURES.map(|(virtual_name, real)| {
            assemble(
                &home,
                &folder.join(format!("{title}.{virtual_name}.ptx")),
                real,
            )
        });
        let [older, newer] = each;
        for (a, b) in older?.iter().zip(newer?) {
            let spilled = a.spilled.max(b.spilled);
            let allowed = SPILLS
                .iter()
                .find(|(program, kernel, _)| title.starts_with(program) && a.name == *kernel);
            if spilled > allowed.map_or(0, |(_, _, bytes)| *bytes) {
                spills.push(format!("{} of {title} spills {spilled} bytes", a.name));
            }
            let (name, shared) = (&a.name, a.shared.max(b.shared));
            let _ = writeln!(
                table,
                "| {title} | {name} | {} | {} | {spilled} | {shared} |",
                a.registers, b.registers
            );
        }
    }
    let path = root.join("target/device-gates.md");
    fs::write(&path, &table).map_err(|e| io_error(&path, &e))?;
    println!("{table}\n{}", path.display());
    if !spills.is_empty() {
        return Err(spills.join("\n"));
    }
    for package in TESTED {
        cargo(&["test", "-p", package, "--test", "device*"], &[])?;
    }
    Ok(())
}

fn titles(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|e| io_error(folder, &e))?;
    let names = entries.flatten().map(|e| e.file_name());
    let mut titles: Vec<String> = names
        .filter_map(|n| n.to_str()?.strip_suffix(".cu").map(str::to_owned))
        .collect();
    titles.sort();
    Ok(titles)
}

/// Resources of a kernel, from ptxas.
struct Kernel {
    name: String,
    registers: usize,
    spilled: usize,
    shared: usize,
}

fn assemble(home: &Path, ptx: &Path, architecture: &str) -> Result<Vec<Kernel>, String> {
    let output = Command::new(home.join("bin/ptxas"))
        .args([
            "-v",
            "-O3",
            "--output-file",
            "/dev/null",
            "--gpu-name",
            architecture,
        ])
        .arg(ptx)
        .output()
        .map_err(|e| format!("ptxas: {e}; run cargo xtask cuda-tools"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {text}", ptx.display()));
    }
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            kernels.push(Kernel {
                name: rest.split('\'').next().unwrap_or_default().to_owned(),
                registers: 0,
                spilled: 0,
                shared: 0,
            });
        }
        if let Some(kernel) = kernels.last_mut() {
            kernel.registers = before(line, " registers").unwrap_or(kernel.registers);
            kernel.spilled += before(line, " bytes spill stores").unwrap_or(0);
            kernel.shared = before(line, " bytes smem").unwrap_or(kernel.shared);
        }
    }
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kernels)
}

/// The number before a word.
fn before(line: &str, word: &str) -> Option<usize> {
    let text = &line[..line.find(word)?];
    text.rsplit([' ', ',']).next()?.parse().ok()
}
