//! Inspection of a data set: contents, problems and remedies.

mod duplicates;
mod findings;
mod labels;
mod leakage;
mod modality;

use serde::Serialize;

use crate::{Dataset, Part, Result};
pub use findings::{Finding, Severity};
pub use labels::LabelSummary;
pub use modality::ModalitySummary;

/// The contents of a data set, and findings about it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The file or name.
    pub origin: String,
    /// The number of samples.
    pub samples: usize,
    /// The splits.
    pub splits: Vec<SplitSummary>,
    /// The modalities, in order.
    pub modalities: Vec<ModalitySummary>,
    /// The labels, where there are any.
    pub labels: Option<LabelSummary>,
    /// Tokens a sample, where the file has text as tokens.
    pub tokens: Option<usize>,
    /// True when samples have identifiers.
    pub ids: bool,
    /// True when samples have texts.
    pub texts: bool,
    /// The number of groups (videos), where it is known.
    pub groups: Option<usize>,
    /// All findings, the most severe first.
    pub findings: Vec<Finding>,
}

/// The sizes of a split's parts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SplitSummary {
    /// `split`, or `split_` and a name.
    pub name: String,
    /// Training samples.
    pub train: usize,
    /// Validation samples.
    pub valid: usize,
    /// Test samples.
    pub test: usize,
    /// Samples of no part.
    pub none: usize,
}

impl Dataset {
    /// Inspects the data set in one pass over its features.
    ///
    /// ```
    /// let inspection = decalign_data::Dataset::mfeat()?.inspect()?;
    /// assert_eq!(inspection.samples, 2000);
    /// assert_eq!(inspection.splits[0].test, 500);
    /// for finding in &inspection.findings {
    ///     println!("{}: {}", finding.message, finding.remedy);
    /// }
    /// # Ok::<(), decalign_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// When memory runs out.
    pub fn inspect(&self) -> Result<Inspection> {
        let scans = self.modalities().iter().map(modality::scan);
        let scans = scans.collect::<Result<Vec<_>>>()?;
        let mut groups = self.sample_groups().unwrap_or_default();
        groups.sort_unstable();
        groups.dedup();
        let mut inspection = Inspection {
            origin: self.origin().to_owned(),
            samples: self.len(),
            splits: self.splits().iter().map(split).collect(),
            modalities: scans.iter().map(|scan| scan.summary.clone()).collect(),
            labels: self.labels().map(labels::summary),
            tokens: self.tokens().map(crate::Tokens::steps),
            ids: self.ids().is_some(),
            texts: self.texts().is_some(),
            groups: (!groups.is_empty()).then_some(groups.len()),
            findings: Vec::new(),
        };
        let mut found = findings::all(self, &inspection);
        found.extend(leakage::findings(self));
        found.extend(duplicates::findings(self, &scans)?);
        // Stable: within one severity, in the order of the checks.
        found.sort_by_key(|finding| finding.severity);
        inspection.findings = found;
        Ok(inspection)
    }
}

fn split(split: &crate::split::Split) -> SplitSummary {
    let count = |part| split.parts.iter().filter(|p| **p == part).count();
    SplitSummary {
        name: split.field.clone(),
        train: count(Some(Part::Train)),
        valid: count(Some(Part::Valid)),
        test: count(Some(Part::Test)),
        none: count(None),
    }
}
