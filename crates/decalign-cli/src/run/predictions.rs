//! `predictions-*.csv`: label and prediction of every sample of a part.

use std::path::Path;

use decalign::Predictions;
use decalign::data::{Dataset, Labels};

use crate::output::{Done, FAILED, Failure};

/// Predictions of the test part.
pub(crate) const TEST: &str = "predictions-test.csv";
/// Predictions of the validation part.
pub(crate) const VALID: &str = "predictions-valid.csv";

/// `row`, `id`, `label`, `prediction`, `score_*` of every class, `text` where there are any.
pub(crate) fn text(data: &Dataset, rows: &[usize], predictions: &Predictions) -> Done<String> {
    write(data, rows, predictions).map_err(|error| Failure {
        message: error.to_string(),
        code: FAILED,
    })
}

fn write(data: &Dataset, rows: &[usize], predictions: &Predictions) -> Result<String, csv::Error> {
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
            None => String::new(),
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
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a file of predictions says of every sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    /// Row and identifier.
    pub(crate) samples: Vec<(String, String)>,
    pub(crate) labels: Vec<f32>,
    /// One score a sample, or one a class.
    pub(crate) scores: Vec<f32>,
}

/// Reads a file of predictions; `classes` are empty for scores.
pub(crate) fn read(path: &Path, classes: &[String]) -> Done<Read> {
    let bad = |message: String| Failure::bad_input(format!("{}: {message}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(|error| bad(error.to_string()))?;
    let header = reader
        .headers()
        .map_err(|error| bad(error.to_string()))?
        .clone();
    let column = |name: &str| {
        let at = header.iter().position(|column| column == name);
        at.ok_or_else(|| bad(format!("no column {name}")))
    };
    let (row, id, label) = (column("row")?, column("id")?, column("label")?);
    let scores = match classes {
        [] => vec![column("prediction")?],
        names => names
            .iter()
            .map(|name| column(&format!("score_{name}")))
            .collect::<Done<_>>()?,
    };
    let mut read = Read {
        samples: Vec::new(),
        labels: Vec::new(),
        scores: Vec::new(),
    };
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let number = |at: usize| {
            let value = record[at].parse::<f32>().ok().filter(|v| v.is_finite());
            value.ok_or_else(|| {
                bad(format!(
                    "row {}: \"{}\" is not a number",
                    i + 2,
                    &record[at]
                ))
            })
        };
        read.samples
            .push((record[row].to_owned(), record[id].to_owned()));
        read.labels.push(match classes {
            [] => number(label)?,
            names => {
                let class = names.iter().position(|name| *name == record[label]);
                let class = class.ok_or_else(|| {
                    bad(format!(
                        "row {}: \"{}\" is no class of the run",
                        i + 2,
                        &record[label]
                    ))
                });
                class? as f32
            }
        });
        for at in &scores {
            read.scores.push(number(*at)?);
        }
    }
    Ok(read)
}
