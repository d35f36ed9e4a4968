//! Findings about a data set, each with a remedy.

use serde::Serialize;

use super::labels::LabelSummary;
use super::modality::ModalitySummary;
use super::{Inspection, SplitSummary};
use crate::{Dataset, Labels};

/// The severity of a finding, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Results would be wrong, or training fails.
    Error,
    /// Results would be worse than they could be.
    Warning,
    /// Information.
    Note,
}

/// A finding about a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The severity.
    pub severity: Severity,
    /// The field.
    pub field: String,
    /// The problem or fact.
    pub message: String,
    /// The remedy.
    pub remedy: String,
}

impl Finding {
    /// A finding about a field: what is the case, and what to do.
    pub fn new(
        severity: Severity,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            field: field.into(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

fn error(field: &str, message: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(Severity::Error, field, message, remedy)
}

fn warning(field: &str, message: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(Severity::Warning, field, message, remedy)
}

/// The largest ratio of two standard deviations that is not reported.
const SCALES: f64 = 100.0;

/// All findings except leakage and duplicates.
pub(super) fn all(data: &Dataset, seen: &Inspection) -> Vec<Finding> {
    let mut found = Vec::new();
    match &seen.labels {
        None => found.push(error(
            "labels",
            "there are none",
            "training and evaluation need scores or classes; prediction does not",
        )),
        Some(summary) => found.extend(label_findings(summary)),
    }
    if seen.splits.is_empty() {
        found.push(error("split",
            "there is none",
            "make one: decalign convert IN OUT --fractions 0.7,0.1,0.2 (--grouped keeps videos together)",
        ));
    }
    seen.splits
        .iter()
        .for_each(|split| found.extend(parts(data, split)));
    seen.modalities
        .iter()
        .for_each(|m| found.extend(modality(m)));
    found.extend(between(&seen.modalities));
    found
}

fn label_findings(summary: &LabelSummary) -> Vec<Finding> {
    let mut found = Vec::new();
    match summary {
        LabelSummary::Scores { range, .. } if range[0] == range[1] => found.push(error(
            "labels",
            format!("every score is {}", range[0]),
            "there is nothing to learn; check the field the labels come from",
        )),
        LabelSummary::Scores { .. } => {}
        LabelSummary::Classes { counts } => {
            let sizes = counts.iter().map(|(_, n)| *n);
            let (most, least) = (sizes.clone().max().unwrap_or(0), sizes.min().unwrap_or(0));
            let empty: Vec<&str> = counts
                .iter()
                .filter(|(_, n)| *n == 0)
                .map(|(name, _)| name.as_str())
                .collect();
            if !empty.is_empty() {
                found.push(warning(
                    "labels",
                    format!("no sample has class {}", empty.join(", ")),
                    "leave the class out, or number the classes without gaps",
                ));
            } else if most > 10 * least {
                found.push(warning(
                    "labels",
                    format!("the largest class has {most} samples, the smallest {least}"),
                    "weigh classes: --set class_weight=balanced; look at Macro_F1",
                ));
            }
        }
    }
    found
}

fn parts(data: &Dataset, split: &SplitSummary) -> Vec<Finding> {
    let mut found = Vec::new();
    for (part, n) in [
        ("train", split.train),
        ("valid", split.valid),
        ("test", split.test),
    ] {
        if n == 0 {
            found.push(error(
                &split.name,
                format!("no sample is in part {part}"),
                "training needs all three parts",
            ));
        }
    }
    if let Some(Labels::Classes { values, names }) = data.labels()
        && let Some(parts) = data.splits().iter().find(|s| s.field == split.name)
    {
        let trained = |class: u32| {
            let pairs = values.iter().zip(&parts.parts);
            pairs
                .into_iter()
                .any(|(v, p)| *v == class && *p == Some(crate::Part::Train))
        };
        let lost: Vec<&str> = (0..names.len())
            .filter(|c| values.contains(&(*c as u32)) && !trained(*c as u32))
            .map(|c| names[c].as_str())
            .collect();
        if split.train > 0 && !lost.is_empty() {
            found.push(error(
                &split.name,
                format!("no training sample has class {}", lost.join(", ")),
                "make a split that is --stratified, or leave these classes out",
            ));
        }
    }
    found
}

fn modality(m: &ModalitySummary) -> Vec<Finding> {
    let mut found = Vec::new();
    if m.non_finite > 0 {
        found.push(error(&m.name,
            format!("{} numbers are NaN or infinite", m.non_finite),
            "take them as 0: --set replace_non_finite=true in training, --replace-non-finite in convert",
        ));
    }
    if !m.constant.is_empty() {
        let first: Vec<String> = m.constant.iter().take(5).map(usize::to_string).collect();
        let more = if m.constant.len() > 5 { ", ..." } else { "" };
        found.push(warning(
            &m.name,
            format!(
                "{} of {} features never change: {}{more}",
                m.constant.len(),
                m.width,
                first.join(", ")
            ),
            "they carry nothing; leave them out of the file",
        ));
    }
    if !m.lengths_given && m.steps > 1 && m.padding > 0.01 {
        found.push(warning(
            &m.name,
            format!(
                "{:.0} % of the steps are zeros at a sequence's end, and no lengths are given",
                100.0 * m.padding
            ),
            "if they are padding: decalign convert IN OUT --zero-tails",
        ));
    }
    if m.deviations[1] > SCALES * m.deviations[0] && m.deviations[0] > 0.0 {
        found.push(warning(&m.name,
            format!(
                "deviations of features reach from {:.3e} to {:.3e}",
                m.deviations[0], m.deviations[1]
            ),
            "standardise: --set need_feature_standardized=true, with feature_clip_percentiles=0.5,99.5 against outliers",
        ));
    }
    if m.missing > 0 {
        found.push(Finding::new(
            Severity::Note,
            &m.name,
            format!("{} samples have no step of it", m.missing),
            "native semantics leaves the modality out for them; check that this is meant",
        ));
    }
    found
}

/// A finding when the scales of two modalities differ much.
fn between(modalities: &[ModalitySummary]) -> Option<Finding> {
    let scales = modalities.iter().filter(|m| m.deviation > 0.0);
    let largest = scales
        .clone()
        .max_by(|a, b| a.deviation.total_cmp(&b.deviation))?;
    let smallest = scales.min_by(|a, b| a.deviation.total_cmp(&b.deviation))?;
    (largest.deviation > SCALES * smallest.deviation).then(|| {
        warning(
            &largest.name,
            format!(
                "its deviation is {:.3e}, that of {} {:.3e}",
                largest.deviation, smallest.name, smallest.deviation
            ),
            "standardise: --set need_feature_standardized=true",
        )
    })
}
