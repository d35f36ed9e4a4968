//! `predictions-*.csv`: the label and the prediction of every sample of a part.

use std::path::Path;

use decalign::Predictions;
use decalign::data::{Dataset, Labels};
use decalign_data::{Error, Result, write_atomic};

use super::invalid;

/// Writes `row`, `id`, `label`, `prediction`, `score_*` of every class, and `text` where the data has texts.
///
/// # Errors
/// When the file cannot be written.
pub fn write_predictions(
    path: &Path,
    data: &Dataset,
    rows: &[usize],
    predictions: &Predictions,
) -> Result<()> {
    let text = table(data, rows, predictions);
    let text = text.map_err(|error| Error::io(path, error.into()))?;
    write_atomic(path, &text)
}

fn table(
    data: &Dataset,
    rows: &[usize],
    predictions: &Predictions,
) -> std::result::Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let classes = predictions.classes();
    let mut header = ["row", "id", "label", "prediction"]
        .map(str::to_owned)
        .to_vec();
    header.extend(classes.iter().map(|name| format!("score_{name}")));
    header.extend(data.texts().map(|_| "text".to_owned()));
    writer.write_record(&header)?;
    for (i, row) in rows.iter().enumerate() {
        let label = match data.labels() {
            Some(Labels::Scores(values)) => values[*row].to_string(),
            Some(Labels::Classes { values, names }) => names[values[*row] as usize].clone(),
            _ => String::new(),
        };
        let scores = predictions.scores(i);
        let prediction = match predictions.label(i) {
            Some(class) => class.to_owned(),
            None => scores[0].to_string(),
        };
        let id = data
            .ids()
            .map_or_else(|| row.to_string(), |ids| ids[*row].clone());
        let mut record = vec![row.to_string(), id, label, prediction];
        if !classes.is_empty() {
            record.extend(scores.iter().take(classes.len()).map(f32::to_string));
        }
        record.extend(data.texts().map(|texts| texts[*row].clone()));
        writer.write_record(&record)?;
    }
    Ok(writer.into_inner().map_err(|error| error.into_error())?)
}

/// The content of a file of predictions.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PredictionTable {
    /// Row and identifier of every sample.
    pub samples: Vec<(String, String)>,
    /// Scores, or indices of classes.
    pub labels: Vec<f32>,
    /// One score a sample, or one a class.
    pub scores: Vec<f32>,
}

impl PredictionTable {
    /// Reads a file; `classes` are the names of the classes, empty for scores.
    ///
    /// # Errors
    /// When the file does not exist, lacks a column, or a cell is not a number or class; the message names the row.
    pub fn open(path: &Path, classes: &[String]) -> Result<Self> {
        let failed = |error: csv::Error| Error::io(path, error.into());
        let mut reader = csv::Reader::from_path(path).map_err(failed)?;
        let header = reader.headers().map_err(failed)?.clone();
        let column = |name: &str| {
            let at = header.iter().position(|column| column == name);
            at.ok_or_else(|| invalid(path, format!("no column {name}")))
        };
        let (row, id, label) = (column("row")?, column("id")?, column("label")?);
        let scores = match classes {
            [] => vec![column("prediction")?],
            names => names
                .iter()
                .map(|name| column(&format!("score_{name}")))
                .collect::<Result<_>>()?,
        };
        let mut table = Self::default();
        for (i, record) in reader.records().enumerate() {
            let record = record.map_err(failed)?;
            let cell = |at: usize, expected: &str| {
                let message = format!("row {}: \"{}\" is {expected}", i + 2, &record[at]);
                invalid(path, message)
            };
            let number = |at: usize| {
                let value = record[at].parse::<f32>().ok().filter(|v| v.is_finite());
                value.ok_or_else(|| cell(at, "not a number"))
            };
            let sample = (record[row].to_owned(), record[id].to_owned());
            table.samples.push(sample);
            table.labels.push(match classes {
                [] => number(label)?,
                names => {
                    let class = names.iter().position(|name| *name == record[label]);
                    class.ok_or_else(|| cell(label, "no class of the run"))? as f32
                }
            });
            for at in &scores {
                table.scores.push(number(*at)?);
            }
        }
        Ok(table)
    }
}
