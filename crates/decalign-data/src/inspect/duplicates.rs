//! Samples with equal features.

use std::collections::HashMap;

use super::findings::{Finding, Severity};
use super::modality::Scan;
use crate::{Dataset, Result};

pub(super) fn findings(data: &Dataset, scans: &[Scan]) -> Result<Vec<Finding>> {
    let sets = sets(data, scans)?;
    let mut found = Vec::new();
    if sets.is_empty() {
        return Ok(found);
    }
    let extra: usize = sets.iter().map(|set| set.len() - 1).sum();
    let pair = |set: &[usize]| format!("samples {} and {}", name(data, set[0]), name(data, set[1]));
    let mut leaks = false;
    for split in data.splits() {
        let apart = |set: &&Vec<usize>| {
            let mut parts = set.iter().filter_map(|row| split.parts[*row]);
            let first = parts.next();
            parts.any(|part| Some(part) != first)
        };
        let across: Vec<&Vec<usize>> = sets.iter().filter(apart).collect();
        if let Some(set) = across.first() {
            leaks = true;
            found.push(Finding::new(
                Severity::Error,
                &split.field,
                format!(
                    "{} sets of samples of equal features lie in more than one part, such as {}",
                    across.len(),
                    pair(set)
                ),
                "remove the copies from training",
            ));
        }
    }
    if !leaks {
        found.push(Finding::new(
            Severity::Warning,
            "features",
            format!(
                "{extra} samples equal another one, such as {}",
                pair(&sets[0])
            ),
            "remove the copies, unless they are meant",
        ));
    }
    Ok(found)
}

fn name(data: &Dataset, row: usize) -> String {
    match data.ids() {
        Some(ids) => format!("{:?}", ids[row]),
        None => row.to_string(),
    }
}

/// Sets of two and more samples whose features are equal in every modality. Samples whose features are all zero count as
/// missing, not as equal.
fn sets(data: &Dataset, scans: &[Scan]) -> Result<Vec<Vec<usize>>> {
    let mut places: HashMap<Vec<u64>, Vec<usize>> = HashMap::new();
    for row in 0..data.len() {
        let digests: Vec<u64> = scans.iter().map(|scan| scan.digests[row]).collect();
        if digests.iter().any(|digest| *digest != 0) {
            places.entry(digests).or_default().push(row);
        }
    }
    let mut sets = Vec::new();
    for rows in places.into_values().filter(|rows| rows.len() > 1) {
        // Digests may collide: compare the features.
        let mut equal = vec![rows[0]];
        for row in &rows[1..] {
            if same(data, rows[0], *row)? {
                equal.push(*row);
            }
        }
        if equal.len() > 1 {
            sets.push(equal);
        }
    }
    sets.sort_unstable();
    Ok(sets)
}

fn same(data: &Dataset, a: usize, b: usize) -> Result<bool> {
    for modality in data.modalities() {
        let source = modality.source();
        let (a, b) = (source.gather(&[a])?, source.gather(&[b])?);
        let equal = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
        if !a.iter().zip(&b).all(equal) {
            return Ok(false);
        }
    }
    Ok(true)
}
