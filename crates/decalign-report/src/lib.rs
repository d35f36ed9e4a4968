//! Run folders, and tables, figures and an HTML page made from them: SVG in colours that colour-blind readers can tell apart, with
//! the numbers of every mark.
//!
//! | item | what it is |
//! |---|---|
//! | [`run_folder`] | the files of a run and their schema, for reading and writing |
//! | [`Experiment`], [`SettingResult`], [`SeedResult`] | results of settings and seeds: ablations, sweeps, baselines |
//! | [`figures_of`] | the figures of an experiment |
//! | [`Figure`], [`Table`] | a drawing with its numbers; SVG, CSV, JSON |
//! | [`ReportInput`], [`Run`], [`Report`] | the content of a folder; one self-contained HTML page |
//!
//! ```
//! use decalign_report::{Cell, Table};
//! let mut table = Table::new(["setting", "Acc"]);
//! table.push(vec!["full".into(), 0.975.into()]);
//! assert_eq!(table.csv(), "setting,Acc\nfull,0.975\n");
//! ```

mod chart;
mod colour;
mod embedding;
mod error;
mod experiment;
mod figure;
mod node;
mod page;
#[cfg(feature = "png")]
mod png;
mod run;
pub mod run_folder;
mod samples;
mod section;
mod statistics;
mod table;

pub use error::{Error, Result};
pub use experiment::{
    Difference, Experiment, ExperimentKind, MetricValues, SeedResult, SettingResult,
};
pub use figure::Figure;
pub use page::Report;
pub use run::{ReportInput, Run};
pub use samples::class_accuracy;
pub use section::{Section, figures_of};
pub use statistics::mean_and_deviation;
pub use table::{Cell, Table};
