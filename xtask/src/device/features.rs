//! Type-checks what is built for devices, without one.

use std::path::Path;

use super::tools;
use crate::cargo;

/// `cargo check` of the program with the feature `cuda`: it takes about ten minutes of two cores the first time, which go
/// into Candle's own kernels.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let home = tools::install(root)?;
    let home = home
        .canonicalize()
        .map_err(|e| crate::described(&home, &e))?;
    let home = home.display().to_string();
    let path = format!("{home}/bin:{}", std::env::var("PATH").unwrap_or_default());
    let environment = [
        ("CUDA_HOME", home.as_str()),
        ("CUDA_PATH", &home),
        ("CUDA_TOOLKIT_ROOT_DIR", &home),
        ("CUDA_COMPUTE_CAP", "90"),
        ("PATH", &path),
    ];
    cargo(
        &["check", "-p", "decalign-cli", "--features", "cuda"],
        &environment,
    )?;
    if cfg!(target_os = "macos") {
        return cargo(&["check", "-p", "decalign-cli", "--features", "metal"], &[]);
    }
    eprintln!("the feature metal is checked on macOS only");
    Ok(())
}
