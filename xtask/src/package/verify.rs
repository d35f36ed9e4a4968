//! Type-checks the packages from their own files alone.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{path, text};
use crate::process::{call, cargo, io_error, root, target};

/// Unpacks all packages into one workspace below `target/package`, where they replace one another's published versions,
/// and checks it. `cargo package` would compile every dependency once a crate; here the builds of this workspace serve.
pub(super) fn run(packages: &[&Value]) -> Result<(), String> {
    let folder = target()?.join("package/unpacked");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| io_error(&folder, &error))?;
    let mut patches = String::new();
    for package in packages {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let mut unpack = Command::new("tar");
        unpack
            .arg("-xzf")
            .arg(path(package)?)
            .arg("-C")
            .arg(&folder);
        call(
            &mut unpack,
            &format!("tar -xzf {name}-{version}.crate"),
            "install tar",
        )?;
        let _ = writeln!(patches, "{name} = {{ path = \"{name}-{version}\" }}");
    }
    let ours = root().join("Cargo.toml");
    let ours = fs::read_to_string(&ours).map_err(|error| io_error(&ours, &error))?;
    // Equal profiles, so that dependencies are not built again.
    let profiles = ours.find("[profile").map_or("", |start| &ours[start..]);
    let manifest = folder.join("Cargo.toml");
    let content = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\"decalign*\"]\n\n[patch.crates-io]\n{patches}\n{profiles}"
    );
    fs::write(&manifest, content).map_err(|error| io_error(&manifest, &error))?;
    let lock = folder.join("Cargo.lock");
    fs::copy(root().join("Cargo.lock"), &lock).map_err(|error| io_error(&lock, &error))?;
    let (manifest, target) = (manifest.display().to_string(), target()?);
    let target = target.display().to_string();
    let paths = ["--manifest-path", &manifest, "--target-dir", &target];
    let check = ["check", "--workspace", "--lib", "--bins", "--examples"];
    cargo(&[&check[..], &paths].concat(), &[])
}
