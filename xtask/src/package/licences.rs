//! Licences of all dependencies, against `.config/deny.toml`.

use std::fs;

use serde_json::Value;
use toml::Table;

use super::{list, text};
use crate::process::{io_error, root};

/// Dependencies whose licence is not allowed.
pub(super) fn faults(metadata: &Value) -> Result<Vec<String>, String> {
    let path = root().join(".config/deny.toml");
    let file = fs::read_to_string(&path).map_err(|error| io_error(&path, &error))?;
    let config: Table = file
        .parse()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let texts = |value: &toml::Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let allowed = texts(&config["licenses"]["allow"]);
    let excluded = texts(&config["graph"]["exclude"]);
    let exceptions = config["licenses"]["exceptions"].as_array();
    let mut faults = Vec::new();
    for package in list(metadata, "packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        let exception = exceptions.into_iter().flatten();
        let exception = exception.filter(|e| e["crate"].as_str() == Some(name));
        let mut allowed = allowed.clone();
        allowed.extend(exception.flat_map(|e| texts(&e["allow"])));
        if !excluded.iter().any(|e| e == name) && !permits(licence, &allowed) {
            faults.push(format!(
                "{name}: licence \"{licence}\" is not allowed by .config/deny.toml; replace the crate or allow the licence there"
            ));
        }
    }
    Ok(faults)
}

/// True if the allowed licences satisfy an SPDX expression; `/` is the old form of OR.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ");
    let spaced = spaced.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let holds = either(&mut words, allowed);
    holds && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// Alternatives; AND binds closer than OR.
fn either(words: &mut Words, allowed: &[String]) -> bool {
    let mut holds = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        holds |= both(words, allowed);
    }
    holds
}

fn both(words: &mut Words, allowed: &[String]) -> bool {
    let mut holds = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut Words, allowed: &[String]) -> bool {
    let Some(word) = words.next() else {
        return false;
    };
    if word == "(" {
        let holds = either(words, allowed);
        return words.next() == Some(")") && holds;
    }
    let mut licence = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence += &format!(" WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_spdx() {
        let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for permitted in [
            "MIT",
            "GPL-3.0 OR MIT",
            "Apache-2.0/MIT",
            "(MIT OR GPL-3.0) AND Zlib",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0",
        ] {
            assert!(permits(permitted, &allowed), "{permitted}");
        }
        for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT"] {
            assert!(!permits(refused, &allowed), "{refused}");
        }
    }
}
