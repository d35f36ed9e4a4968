//! Tables, figures and one page from runs: SVG that scales, in colours that everybody can tell
//! apart, with the numbers behind every mark.
//!
//! | item | what it is |
//! |---|---|
//! | [`Experiment`], [`Row`], [`Single`] | settings, seeds and their figures: ablations, sweeps, baselines |
//! | [`figures_of`] | the figures of an experiment |
//! | [`Figure`], [`Table`] | a drawing with its numbers; SVG, CSV, JSON |
//! | [`Found`], [`Run`], [`Report`] | folders read; one self-contained HTML page |
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
mod samples;
mod section;
mod statistics;
mod table;

pub use error::{Error, Result};
pub use experiment::{Difference, Experiment, Figures, Kind, Row, Single};
pub use figure::Figure;
pub use page::Report;
pub use run::{Found, Run};
pub use samples::{class_accuracy, labels};
pub use section::{Section, figures_of};
pub use statistics::mean_and_deviation;
pub use table::{Cell, Table};
