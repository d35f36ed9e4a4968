//! The sections of a report, one file each.

mod alignment;
mod common;
mod experiment;
mod metrics;
mod predictions;
mod training;

pub use experiment::figures_of;

use crate::error::Result;
use crate::experiment::{Experiment, ExperimentKind};
use crate::figure::Figure;
use crate::run::{ReportInput, Run};
use crate::table::Table;

/// Figures and tables under one heading.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Section {
    /// The heading.
    pub title: String,
    /// Tables with their titles.
    pub tables: Vec<(String, Table)>,
    /// The figures, in order.
    pub figures: Vec<Figure>,
}

/// All sections, the comparison of runs first.
pub(crate) fn sections(found: Vec<ReportInput>) -> Result<Vec<Section>> {
    let (mut runs, mut experiments) = (Vec::new(), Vec::new());
    for one in found {
        match one {
            ReportInput::Run(run) => runs.push(*run),
            ReportInput::Experiment(experiment) => experiments.push(*experiment),
        }
    }
    distinguish(&mut runs);
    let mut sections = Vec::new();
    let (table, intervals) = metrics::table(&runs);
    if !runs.is_empty() {
        let figures = metrics::bubble_chart(&runs, &intervals)
            .into_iter()
            .chain(predictions::classes(&runs));
        sections.push(Section {
            title: "Runs".to_owned(),
            tables: vec![("figures on the test part".to_owned(), table)],
            figures: figures.collect(),
        });
    }
    for (run, (_, intervals)) in runs.iter().zip(&intervals) {
        let mut figures: Vec<Figure> = metrics::spans(&run.name, intervals).into_iter().collect();
        figures.extend(training::figures(run));
        figures.extend(predictions::confusion(run));
        figures.extend(predictions::calibration(run));
        figures.extend(alignment::gap(run)?);
        figures.extend(alignment::prototypes(run)?);
        sections.push(Section {
            title: format!("Run {}", run.name),
            tables: vec![(
                "the hardest samples of the test part".to_owned(),
                predictions::hardest(run),
            )],
            figures,
        });
    }
    sections.extend(experiments.iter().map(experiment_section));
    Ok(sections)
}

fn experiment_section(experiment: &Experiment) -> Section {
    let kind = match experiment.kind {
        ExperimentKind::Ablation => "Ablation",
        ExperimentKind::Sweep => "Sweep",
        ExperimentKind::Baselines => "Baselines",
    };
    Section {
        title: format!("{kind}, {}", experiment.dataset),
        tables: vec![("means over seeds, test part".to_owned(), experiment.table())],
        figures: figures_of(experiment),
    }
}

/// Numbers repeated names.
fn distinguish(runs: &mut [Run]) {
    for i in 1..runs.len() {
        let (before, rest) = runs.split_at_mut(i);
        let taken = |name: &str| before.iter().any(|r| r.name == name);
        if taken(&rest[0].name) {
            let numbered = (2..).map(|k| format!("{}-{k}", rest[0].name));
            rest[0].name = numbered.into_iter().find(|n| !taken(n)).unwrap_or_default();
        }
    }
}
