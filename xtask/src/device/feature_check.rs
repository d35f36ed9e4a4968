//! Type-checks the device code of the program, without a device.

use std::path::Path;

use super::cuda_tools;
use crate::process::{cargo, io_error};

/// `cargo check` of the program with the feature `cuda`: about ten minutes on two cores the first time, spent on
/// Candle's own kernels.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let home = cuda_tools::install(root)?;
    let home = home.canonicalize().map_err(|e| io_error(&home, &e))?;
    let home = home.display().to_string();
    let path = format!("{home}/bin:{}", std::env::var("PATH").unwrap_or_default());
    let environment = [
        ("CUDA_HOME", home.as_str()),
        ("CUDA_PATH", &home),
        ("CUDA_TOOLKIT_ROOT_DIR", &home),
        ("CUDA_COMPUTE_CAP", "90"),
        ("PATH", &path),
    ];
    let check = ["check", "-p", "decalign-cli", "--features"];
    cargo(&[&check[..], &["cuda"]].concat(), &environment)?;
    if cfg!(target_os = "macos") {
        return cargo(&[&check[..], &["metal"]].concat(), &[]);
    }
    eprintln!("the feature metal is checked on macOS only");
    Ok(())
}
