//! Commands that xtask runs, and paths of the workspace.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder that cargo builds this workspace in.
pub(crate) fn target() -> Result<PathBuf, String> {
    let folder =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::path::absolute(&folder).map_err(|error| io_error(&folder, &error))
}

/// The cargo that runs this program.
fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a cargo command that has to succeed.
pub(crate) fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(cargo_program());
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root());
    let line = format!("cargo {}", arguments.join(" "));
    call(&mut command, &line, "install Rust")
}

/// The output of a cargo command that has to succeed.
pub(crate) fn cargo_output(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let line = format!("cargo {}", arguments.join(" "));
    let mut command = Command::new(cargo_program());
    command.args(arguments).current_dir(root());
    let output = command.stderr(Stdio::piped()).output();
    let output = output.map_err(|error| format!("{line}: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!(
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Runs a command that has to succeed; `remedy` helps when there is no such program.
pub(crate) fn call(command: &mut Command, line: &str, remedy: &str) -> Result<(), String> {
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

/// Runs `python3` in a folder; it has to succeed.
pub(crate) fn python(arguments: &[&str], folder: &Path) -> Result<(), String> {
    let mut command = Command::new("python3");
    command.args(arguments).current_dir(folder);
    let line = format!("python3 {}", arguments.join(" "));
    call(&mut command, &line, "install Python 3 with pip")
}

/// An error with the path that it is about.
pub(crate) fn io_error(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
