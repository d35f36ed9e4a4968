//! Manifests: the fields that crates.io and docs.rs show.

use serde_json::Value;

use super::{list, text};

/// Categories of crates.io that fit this workspace.
const CATEGORIES: [&str; 10] = [
    "algorithms",
    "command-line-utilities",
    "concurrency",
    "encoding",
    "hardware-support",
    "mathematics",
    "parser-implementations",
    "science",
    "text-processing",
    "visualization",
];

/// The licence of every published crate.
const LICENCE: &str = "MIT OR Apache-2.0";

/// Faults of the fields of one manifest.
pub(super) fn faults(package: &Value) -> Vec<String> {
    let name = text(package, "name");
    let documentation = format!("https://docs.rs/{name}");
    let mut faults = Vec::new();
    let mut expect = |holds: bool, field: &str, remedy: &str| {
        if !holds {
            let value = &package[field];
            faults.push(format!(
                "{name}: {field} is {value} in Cargo.toml; {remedy}"
            ));
        }
    };
    let remedy = "write one sentence about what the crate computes";
    expect(
        text(package, "description").len() > 20,
        "description",
        remedy,
    );
    let remedy = "set it to README.md and write that file";
    expect(text(package, "readme") == "README.md", "readme", remedy);
    let remedy = format!("set it to \"{documentation}\"");
    let holds = text(package, "documentation") == documentation;
    expect(holds, "documentation", &remedy);
    let remedy = "inherit it: repository.workspace = true";
    expect(
        text(package, "repository").starts_with("https://"),
        "repository",
        remedy,
    );
    let remedy = format!("inherit it: license.workspace = true ({LICENCE})");
    expect(text(package, "license") == LICENCE, "license", &remedy);
    let remedy = "inherit it: rust-version.workspace = true";
    expect(package["rust_version"].is_string(), "rust_version", remedy);
    let remedy = "name 1 to 5 of at most 20 letters, digits or - each, which begin with a letter";
    let keywords = list(package, "keywords");
    let valid = (1..=5).contains(&keywords.len()) && keywords.iter().all(valid_keyword);
    expect(valid, "keywords", remedy);
    let remedy = format!("name 1 to 5 of {}", CATEGORIES.join(", "));
    let categories = list(package, "categories");
    let known = |c: &Value| c.as_str().is_some_and(|c| CATEGORIES.contains(&c));
    let valid = (1..=5).contains(&categories.len()) && categories.iter().all(known);
    expect(valid, "categories", &remedy);
    let remedy = "add [package.metadata.docs.rs] with the features to document";
    let docs = &package["metadata"]["docs"]["rs"];
    expect(docs["features"].is_array(), "metadata", remedy);
    for feature in list(docs, "features").iter().filter_map(Value::as_str) {
        let remedy = format!("metadata.docs.rs names {feature}, which is no feature");
        expect(
            package["features"].get(feature).is_some(),
            "features",
            &remedy,
        );
    }
    faults
}

fn valid_keyword(keyword: &Value) -> bool {
    let keyword = keyword.as_str().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    keyword.len() <= 20
        && keyword.starts_with(|c: char| c.is_ascii_alphabetic())
        && keyword.chars().all(allowed)
}

/// Faults between manifests: what is published, and keywords that several crates share in full.
pub(super) fn shared_faults(members: &[&Value], unpublished: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, package) in members.iter().enumerate() {
        let name = text(package, "name");
        let private = package["publish"].as_array().is_some_and(Vec::is_empty);
        match (private, unpublished.contains(&name)) {
            (false, true) => faults.push(format!("{name}: add publish = false to its Cargo.toml")),
            (true, false) => faults.push(format!(
                "{name}: has publish = false; remove it, or add {name} to UNPUBLISHED in xtask/src/package"
            )),
            _ => {}
        }
        let twin = |other: &&&Value| !private && other["keywords"] == package["keywords"];
        if let Some(other) = members[..number].iter().find(twin) {
            let other = text(other, "name");
            faults.push(format!(
                "{name}: has all keywords of {other}; name its own subject"
            ));
        }
        for dependency in list(package, "dependencies") {
            let (needs, test) = (text(dependency, "name"), text(dependency, "kind") == "dev");
            if !private && unpublished.contains(&needs) && !(test && text(dependency, "req") == "*")
            {
                faults.push(format!(
                    "{name}: depends on {needs}, which is not published; make it a dev-dependency by path, without a version"
                ));
            }
        }
    }
    faults
}

/// Dependencies that need a newer compiler than the workspace promises.
pub(super) fn compiler_faults(metadata: &Value) -> Vec<String> {
    let packages = list(metadata, "packages");
    let ours = packages
        .iter()
        .filter(|package| package["source"].is_null());
    let promised = ours
        .map(|package| version(text(package, "rust_version")))
        .min();
    let promised = promised.unwrap_or_default();
    let newer = packages.iter().filter(|package| {
        !package["source"].is_null() && version(text(package, "rust_version")) > promised
    });
    newer
        .map(|package| {
            let (name, needs) = (text(package, "name"), text(package, "rust_version"));
            let [major, minor, _] = promised;
            format!(
                "{name} {}: needs Rust {needs}, the workspace promises {major}.{minor}; raise rust-version or take an older {name}",
                text(package, "version")
            )
        })
        .collect()
}

/// `1.89` as numbers.
fn version(text: &str) -> [u32; 3] {
    let mut numbers = text.split('.').map(|n| n.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}
