//! `decalign inspect`.

use std::fmt::Write;
use std::path::Path;

use decalign::config::PRESET_SHAPES;
use decalign_data::{FileDigest, Finding, Inspection, LabelSummary, Severity};
use serde_json::json;

use crate::args;
use crate::output::{CliResult, print, print_json};
use crate::{source, table};

pub(crate) fn run(arguments: args::Inspect) -> CliResult {
    let data = source::dataset(&arguments.data)?;
    let digest = match arguments.data.is_file() {
        true => Some(FileDigest::of(&arguments.data)?),
        false => None,
    };
    let mut seen = data.inspect()?;
    seen.findings.extend(preset_finding(&seen));
    if arguments.json {
        let digest = digest.map(|d| json!({ "sha256": d.sha256, "known": d.known }));
        return print_json(&json!({ "file": digest, "data": seen }));
    }
    print(&(describe(&seen, digest.as_ref(), &arguments.data) + &findings(&seen)))
}

fn describe(seen: &Inspection, digest: Option<&FileDigest>, path: &Path) -> String {
    let mut text = format!("{}: {} samples", path.display(), seen.samples);
    let have = [
        (seen.ids, "identifiers".to_owned()),
        (seen.texts, "texts".to_owned()),
        (
            seen.groups.is_some(),
            format!("{} groups", seen.groups.unwrap_or(0)),
        ),
        (
            seen.tokens.is_some(),
            format!("{} tokens each", seen.tokens.unwrap_or(0)),
        ),
    ];
    for (_, what) in have.into_iter().filter(|(there, _)| *there) {
        let _ = write!(text, ", {what}");
    }
    text.push('\n');
    if let Some(FileDigest { sha256, known, .. }) = digest {
        let known = known.map_or(String::new(), |name| format!(" ({name})"));
        let _ = writeln!(text, "SHA-256 {sha256}{known}");
    }
    text + "\n" + &splits(seen) + &modalities(seen) + &labels(seen)
}

fn splits(seen: &Inspection) -> String {
    if seen.splits.is_empty() {
        return String::new();
    }
    let header = ["train", "valid", "test", "none"]
        .map(str::to_owned)
        .to_vec();
    let cells = seen.splits.iter().map(|s| {
        let counts = [s.train, s.valid, s.test, s.none];
        (s.name.clone(), counts.map(|n| n.to_string()).to_vec())
    });
    table::lines(header, cells.collect()) + "\n"
}

fn modalities(seen: &Inspection) -> String {
    let header = [
        "steps",
        "features",
        "length",
        "padding",
        "missing",
        "mean",
        "deviation",
        "least",
        "largest",
    ];
    let cells = seen.modalities.iter().map(|m| {
        let [least, mean, most] = m.length;
        let cells = vec![
            m.steps.to_string(),
            m.width.to_string(),
            format!("{least:.0}-{most:.0} ({mean:.1})"),
            format!("{:.1} %", 100.0 * m.padding),
            m.missing.to_string(),
            number(m.mean),
            number(m.deviation),
            number(m.range[0]),
            number(m.range[1]),
        ];
        (m.name.clone(), cells)
    });
    table::lines(header.map(str::to_owned).to_vec(), cells.collect()) + "\n"
}

/// Four digits, whatever the size.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

fn labels(seen: &Inspection) -> String {
    match &seen.labels {
        None => String::new(),
        Some(LabelSummary::Scores {
            range,
            mean,
            deviation,
            signs,
            histogram,
        }) => {
            let mut text = format!(
                "scores {} to {}, mean {mean:.4}, deviation {deviation:.4}; {} negative, {} zero, {} positive\n",
                range[0], range[1], signs[0], signs[1], signs[2]
            );
            let most = histogram.iter().map(|(_, n)| *n).max().unwrap_or(1);
            for (score, n) in histogram {
                let bar = "#".repeat((40 * n).div_ceil(most.max(1)));
                let _ = writeln!(text, "{score:>6}  {n:>6}  {bar}");
            }
            text + "\n"
        }
        Some(LabelSummary::Classes { counts }) => {
            let counts = counts.iter().map(|(name, n)| format!("{name} {n}"));
            format!("classes: {}\n\n", counts.collect::<Vec<_>>().join(", "))
        }
        Some(_) => String::new(),
    }
}

fn findings(seen: &Inspection) -> String {
    if seen.findings.is_empty() {
        return "nothing is wrong with it\n".to_owned();
    }
    let mut text = String::new();
    for finding in &seen.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let _ = writeln!(
            text,
            "{severity:<7}  {}: {}\n         -> {}",
            finding.field, finding.message, finding.remedy
        );
    }
    text
}

/// A finding when the widths are those of a preset, or nearly so.
fn preset_finding(seen: &Inspection) -> Option<Finding> {
    let width = |name: &str| {
        let modality = seen.modalities.iter().find(|m| m.name == name);
        modality.map(|m| m.width)
    };
    let [Some(text), Some(audio), Some(vision)] = ["text", "audio", "vision"].map(width) else {
        return None;
    };
    let here = [text, audio, vision];
    let agree = |widths: &[usize; 3]| (0..3).filter(|i| widths[*i] == here[*i]).count();
    let presets = PRESET_SHAPES.iter().filter(|shape| shape.name != "mfeat");
    let shape = presets.max_by_key(|shape| agree(&shape.widths))?;
    let (name, widths) = (shape.name, &shape.widths);
    let note = |message, remedy| Finding::new(Severity::Note, "modalities", message, remedy);
    match agree(widths) {
        3 => Some(note(
            format!("widths {here:?} are those of preset {name}"),
            format!("train with --preset {name}"),
        )),
        2 => Some(note(
            format!("widths {here:?}, preset {name} is made for {widths:?}"),
            "the preset trains all the same; its settings were chosen for other features"
                .to_owned(),
        )),
        _ => None,
    }
}
