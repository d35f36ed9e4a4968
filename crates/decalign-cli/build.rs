//! Versions that a run records: of the compiler, and of Candle by the lock file.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!(
        "cargo::rustc-env=DECALIGN_RUSTC={}",
        version.unwrap_or_default()
    );

    // The package has a lock file of its own; in the workspace it is the root's.
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let locks = Path::new(&folder).ancestors().map(|f| f.join("Cargo.lock"));
    let lock = locks.into_iter().find(|lock| lock.exists());
    let text = lock.and_then(|lock| {
        println!("cargo::rerun-if-changed={}", lock.display());
        std::fs::read_to_string(lock).ok()
    });
    let text = text.unwrap_or_default();
    let candle = text.split("[[package]]").find_map(|package| {
        let mut lines = package.lines();
        lines.find(|line| *line == "name = \"candle-core\"")?;
        let version = lines.next()?.strip_prefix("version = \"")?;
        version.strip_suffix('"')
    });
    println!(
        "cargo::rustc-env=DECALIGN_CANDLE={}",
        candle.unwrap_or_default()
    );
}
