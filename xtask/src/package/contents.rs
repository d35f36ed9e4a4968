//! Files of a package: what has to be inside, and what must not be.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::{folder, text};
use crate::process::io_error;

/// Files of every package.
const NEEDED: [&str; 3] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// The fault of a crate without a README.
pub(super) fn no_readme(package: &Value) -> String {
    let name = text(package, "name");
    format!("{name}: no README.md; write crates/{name}/README.md with an example")
}

/// Faults of the files of one package.
pub(super) fn faults(package: &Value, files: &[String]) -> Result<Vec<String>, String> {
    let (name, folder) = (text(package, "name"), folder(package));
    let inside = |path: &Path| files.iter().any(|file| Path::new(file) == path);
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(|error| io_error(&path, &error))
    };
    let mut faults = Vec::new();
    for file in NEEDED.iter().filter(|file| !inside(Path::new(file))) {
        faults.push(format!(
            "{name}: no {file} in the package; add crates/{name}/{file} (licences are links to the root's)"
        ));
    }
    for file in files {
        if file.starts_with("tests/") || file.contains("fixture") || file.contains("golden") {
            faults.push(format!(
                "{name}: {file} is in the package; leave tests out of `include`"
            ));
        }
        if file.ends_with(".rs") {
            for embedded in embedded(&read(file)?) {
                let path = resolve(file, &embedded);
                if !path.is_some_and(|path| inside(&path)) {
                    faults.push(format!(
                        "{name}: {file} embeds {embedded}, which is not in the package; move it into the crate"
                    ));
                }
            }
        }
        if file == "build.rs" && read(file)?.contains("\"../") {
            faults.push(format!(
                "{name}: build.rs reads outside of the package; read only its own files"
            ));
        }
    }
    if inside(Path::new("README.md")) {
        for link in links(&read("README.md")?) {
            let (path, _) = link.split_once('#').unwrap_or((&link, ""));
            let external = link.contains("://") || link.starts_with("mailto:") || path.is_empty();
            if !external && !resolve("README.md", path).is_some_and(|path| inside(&path)) {
                faults.push(format!(
                    "{name}: README.md links to {link}, which is not in the package; use an address or remove it"
                ));
            }
        }
    }
    Ok(faults)
}

/// The paths in `include_str!("...")` and `include_bytes!("...")`.
fn embedded(source: &str) -> Vec<String> {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let calls = ["include_str!(\"", "include_bytes!(\""];
    let paths = |call: &str| {
        let rest = code.split(call).skip(1);
        rest.filter_map(|text| text.split('"').next().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    calls.iter().flat_map(|call| paths(call)).collect()
}

/// The targets of Markdown links outside of code.
fn links(text: &str) -> Vec<String> {
    let mut code = false;
    let mut links = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        let target = |rest: &str| rest.split([')', ' ']).next().map(str::to_owned);
        links.extend(line.split("](").skip(1).filter_map(target));
        if let Some((_, rest)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            links.push(rest.trim().to_owned());
        }
    }
    links
}

/// A path relative to a file, as a path in the package; none where it leaves the package.
fn resolve(file: &str, relative: &str) -> Option<PathBuf> {
    let mut path = Path::new(file).parent()?.to_path_buf();
    for part in Path::new(relative).components() {
        match part {
            Component::ParentDir if !path.pop() => return None,
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_of_code_are_read() {
        let text = "a [b](src/c.rs) ![d](../e.svg \"f\")\n```\n[g](h)\n```\n[i]: https://j";
        assert_eq!(links(text), ["src/c.rs", "../e.svg", "https://j"]);
        assert_eq!(resolve("README.md", "../e.svg"), None);
        let path = resolve("src/a/b.rs", "../../presets/c.json");
        assert_eq!(path, Some(PathBuf::from("presets/c.json")));
    }

    #[test]
    fn embedded_files_are_read() {
        let source = "// include_str!(\"a\")\nlet b = include_str!(\"b.cu\");\nlet c = include_bytes!(\"../c\");";
        assert_eq!(embedded(source), ["b.cu", "../c"]);
    }
}
