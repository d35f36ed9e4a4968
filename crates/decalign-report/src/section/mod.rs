//! What a report shows, one file a subject.

mod experiment;

pub use experiment::figures_of;
