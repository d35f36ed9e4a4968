//! Every published crate as crates.io and docs.rs will see it.

mod contents;
mod licences;
mod manifest;
mod verify;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::process::{cargo, cargo_output, io_error, target};

/// Packages that stay in this repository.
const UNPUBLISHED: [&str; 3] = ["decalign-benches", "decalign-testkit", "xtask"];

/// Largest package, in KB.
const LARGEST: u64 = 1024;
/// The embedded digits take 2.1 MB, and crates.io accepts 10 MB.
const LARGEST_WITH_DATA: (&str, u64) = ("decalign-data", 2560);

/// Checks the manifests, contents and sizes of all packages and the licences of all dependencies; `verify` also
/// type-checks the packages from their own files alone.
pub(crate) fn run(verify: bool) -> Result<(), String> {
    let metadata = metadata()?;
    let members = members(&metadata)?;
    let mut faults = licences::faults(&metadata)?;
    faults.extend(manifest::shared_faults(&members, &UNPUBLISHED));
    faults.extend(manifest::compiler_faults(&metadata));
    let published: Vec<&Value> = members
        .into_iter()
        .filter(|package| !UNPUBLISHED.contains(&text(package, "name")))
        .collect();
    let missing = |package: &&&Value| !folder(package).join("README.md").exists();
    let missing = published.iter().filter(missing);
    let missing: Vec<String> = missing
        .map(|package| contents::no_readme(package))
        .collect();
    if !missing.is_empty() {
        // cargo cannot even list such a package.
        return Err(missing.join("\n"));
    }
    let mut crates = Vec::new();
    for &package in &published {
        let files = files(text(package, "name"))?;
        let mut own = manifest::faults(package);
        own.extend(contents::faults(package, &files)?);
        crates.push((package, files, own));
    }
    pack()?;
    if verify {
        verify::run(&published)?;
    }
    let mut table = format!("{:<18} {:>5} {:>6}  verdict\n", "crate", "files", "KB");
    for (package, files, mut own) in crates {
        let name = text(package, "name");
        let path = path(package)?;
        let file = fs::metadata(&path).map_err(|error| io_error(&path, &error))?;
        let size = file.len().div_ceil(1024);
        let largest = match LARGEST_WITH_DATA {
            (with_data, size) if with_data == name => size,
            _ => LARGEST,
        };
        if size > largest {
            own.push(format!(
                "{name}: {size} KB packed, limit {largest}; find large files with `cargo package --list -p {name}` and \
                 exclude them"
            ));
        }
        let verdict = match own.len() {
            0 => "ready".to_owned(),
            1 => "1 fault".to_owned(),
            n => format!("{n} faults"),
        };
        table += &format!("{name:<18} {:>5} {size:>6}  {verdict}\n", files.len());
        faults.append(&mut own);
    }
    print!("{table}");
    match faults.len() {
        0 => Ok(()),
        n => Err(format!(
            "{}\ncargo xtask package: {n} faults",
            faults.join("\n")
        )),
    }
}

/// Checks the licences of all dependencies.
pub(crate) fn check_licences() -> Result<(), String> {
    match licences::faults(&metadata()?)?.as_slice() {
        [] => Ok(()),
        faults => Err(faults.join("\n")),
    }
}

/// The workspace and every dependency on every platform, as cargo knows them.
fn metadata() -> Result<Value, String> {
    let arguments = ["metadata", "--format-version", "1", "--all-features"];
    let output = cargo_output(&arguments)?;
    serde_json::from_slice(&output).map_err(|error| format!("cargo metadata: {error}"))
}

/// The packages of the workspace.
fn members(metadata: &Value) -> Result<Vec<&Value>, String> {
    let ids = metadata["workspace_members"].as_array();
    let ids = ids.ok_or("cargo metadata lists no members")?;
    let is_member = |package: &&Value| ids.contains(&package["id"]);
    Ok(list(metadata, "packages")
        .iter()
        .filter(is_member)
        .collect())
}

/// Paths inside the package.
fn files(name: &str) -> Result<Vec<String>, String> {
    let output = cargo_output(&["package", "--list", "--allow-dirty", "-p", name])?;
    let text = String::from_utf8_lossy(&output);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Writes the packages below `target/package`; crates of the workspace find one another there.
fn pack() -> Result<(), String> {
    let options = [
        "package",
        "--workspace",
        "--allow-dirty",
        "--no-verify",
        "--quiet",
    ];
    let exclude = UNPUBLISHED.iter().flat_map(|name| ["--exclude", name]);
    cargo(&options.into_iter().chain(exclude).collect::<Vec<_>>(), &[])
}

/// The file of a package.
fn path(package: &Value) -> Result<PathBuf, String> {
    let (name, version) = (text(package, "name"), text(package, "version"));
    Ok(target()?.join(format!("package/{name}-{version}.crate")))
}

/// A text of a JSON object, empty where it is absent.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A list of a JSON object, empty where it is absent.
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The folder of a package.
fn folder(package: &Value) -> PathBuf {
    let mut path = PathBuf::from(text(package, "manifest_path"));
    path.pop();
    path
}
