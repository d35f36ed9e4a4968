//! Leakage: identifiers and groups in more than one part of a split.

use std::collections::HashMap;

use super::findings::{Finding, Severity};
use crate::split::Split;
use crate::{Dataset, Part};

pub(super) fn findings(data: &Dataset) -> Vec<Finding> {
    let mut found = Vec::new();
    for split in data.splits() {
        if let Some(ids) = data.ids() {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            found.extend(shared(
                split,
                &ids,
                "identifier",
                "remove or rename the repeated samples",
            ));
        }
        if let Some(groups) = data.sample_groups() {
            let remedy = "make a split that is grouped: decalign convert IN OUT --fractions 0.7,0.1,0.2 --grouped --name grouped";
            found.extend(shared(split, &groups, "group", remedy));
        }
    }
    found
}

/// A finding when samples of different parts share a value.
fn shared(split: &Split, values: &[&str], what: &str, remedy: &str) -> Option<Finding> {
    let mut parts: HashMap<&str, [bool; 3]> = HashMap::new();
    for (value, part) in values.iter().zip(&split.parts) {
        if let Some(part) = part {
            parts.entry(value).or_default()[part.code() as usize] = true;
        }
    }
    let several = |seen: &[bool; 3]| seen.iter().filter(|s| **s).count() > 1;
    let mut names: Vec<&str> = parts
        .iter()
        .filter(|(_, seen)| several(seen))
        .map(|(name, _)| *name)
        .collect();
    names.sort_unstable();
    let first = names.first()?;
    let seen = parts.get(first)?;
    let there: Vec<String> = Part::ALL
        .into_iter()
        .zip(seen)
        .filter(|(_, s)| **s)
        .map(|(p, _)| p.to_string())
        .collect();
    Some(Finding::new(
        Severity::Error,
        &split.field,
        format!(
            "{} {what}{} in more than one part, such as {first:?} in {}",
            names.len(),
            if names.len() == 1 { " is" } else { "s are" },
            there.join(" and ")
        ),
        remedy,
    ))
}
