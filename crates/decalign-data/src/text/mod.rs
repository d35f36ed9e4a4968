//! Data as text: tables (CSV, TSV), JSON lines, and files of any names mapped by a TOML.

mod lines;
mod mapping;
mod samples;
mod table;

use std::path::Path;

use crate::{Dataset, Error, Result};

/// Reads a folder of tables.
pub(crate) fn folder(path: &Path) -> Result<Dataset> {
    table::folder(path)
}

/// Reads a table: one modality, one row a sample or a step.
pub(crate) fn table(path: &Path) -> Result<Dataset> {
    table::single(path)
}

/// Reads JSON lines, one sample each.
pub(crate) fn lines(path: &Path) -> Result<Dataset> {
    lines::read(path)
}

/// Reads what a TOML file names.
pub(crate) fn mapped(path: &Path) -> Result<Dataset> {
    mapping::read(path)
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::io(path, error)
}
