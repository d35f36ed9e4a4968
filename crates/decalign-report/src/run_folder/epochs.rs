//! `epochs.csv` and `history.json`: the epochs of a run.

use std::path::Path;

use decalign::train::EpochReport;
use decalign_data::{Error, Result, write_atomic};
use serde::Serialize;

use super::{EPOCHS, HISTORY, write_json};

/// Writes the epochs of a run as CSV and as JSON.
///
/// # Errors
/// When a file cannot be written.
pub fn write_epochs(folder: &Path, epochs: &[EpochReport]) -> Result<()> {
    let path = folder.join(EPOCHS);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = epochs.first().map(EpochReport::header);
    let mut rows = header
        .into_iter()
        .chain(epochs.iter().map(EpochReport::row));
    let text = rows
        .try_for_each(|row| writer.write_record(row))
        .map_err(std::io::Error::from)
        .and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
    write_atomic(&path, &text.map_err(|error| Error::io(&path, error))?)?;

    #[derive(Serialize)]
    struct History<'a> {
        epochs: &'a [EpochReport],
    }
    write_json(&folder.join(HISTORY), &History { epochs })
}

/// `epochs.csv` as numbers.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EpochTable {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// One row an epoch.
    pub rows: Vec<Vec<f64>>,
}

impl EpochTable {
    /// Reads the table of a folder; an absent file is an empty table, and an incomplete row ends it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(EPOCHS);
        if !path.exists() {
            return Ok(Self::default());
        }
        let failed = |error: csv::Error| Error::io(&path, error.into());
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_path(&path)
            .map_err(failed)?;
        let header = reader.headers().map_err(failed)?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        let numbers = |row: csv::StringRecord| -> Vec<f64> {
            let each = row.iter().map(|v| v.parse().unwrap_or(f64::NAN));
            each.collect()
        };
        let rows = reader.records().map_while(|row| row.ok().map(numbers));
        let rows = rows.take_while(|row| row.len() >= columns.len()).collect();
        Ok(Self { columns, rows })
    }

    /// The pairs of epoch and value of a column; empty when there is none of this name.
    pub fn column(&self, name: &str) -> Vec<(f64, f64)> {
        let Some(i) = self.columns.iter().position(|c| c == name) else {
            return Vec::new();
        };
        self.rows.iter().map(|row| (row[0], row[i])).collect()
    }
}
