//! `decalign predict`.

use std::io::Write;

use decalign::{Dataset, Predictions};
use decalign_data::write_atomic;
use serde_json::{Map, Value};

use crate::args::{Format, Predict};
use crate::output::{CliResult, Failure, print};
use crate::source;

pub(crate) fn run(arguments: Predict) -> CliResult {
    if let Some(output) = &arguments.output {
        let input = &arguments.input;
        source::check_output(output, &[&input.checkpoint, &input.data])?;
    }
    let (predictor, data) = source::model_and_data(&arguments.input)?;
    let rows = source::rows(
        &data,
        arguments.input.split.as_deref(),
        &predictor,
        arguments.part,
    )?;
    let predictions = predictor.predict(&data, &rows)?;
    let text = match arguments.format {
        Format::Csv => csv(&data, &rows, &predictions),
        Format::Jsonl => jsonl(&data, &rows, &predictions),
    };
    let text = text.map_err(Failure::failed)?;
    match arguments.output {
        Some(path) => Ok(write_atomic(&path, text.as_bytes())?),
        None => print(&text),
    }
}

/// `row`, `id` where there are any, then `score`, or `class` and `p_` of every class.
fn csv(data: &Dataset, rows: &[usize], predictions: &Predictions) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["row".to_owned()];
    header.extend(data.ids().map(|_| "id".to_owned()));
    match predictions.classes() {
        [] => header.push("score".to_owned()),
        classes => {
            header.push("class".to_owned());
            header.extend(classes.iter().map(|name| format!("p_{name}")));
        }
    }
    writer.write_record(&header)?;
    for (i, row) in rows.iter().enumerate() {
        let mut record = vec![row.to_string()];
        record.extend(data.ids().map(|ids| ids[*row].clone()));
        match (predictions.label(i), predictions.probabilities(i)) {
            (Some(label), Some(probabilities)) => {
                record.push(label.to_owned());
                record.extend(probabilities.iter().map(f32::to_string));
            }
            _ => record.push(predictions.scores(i)[0].to_string()),
        }
        writer.write_record(&record)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn jsonl(data: &Dataset, rows: &[usize], predictions: &Predictions) -> Result<String, csv::Error> {
    let mut text = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut object = Map::new();
        object.insert("row".to_owned(), Value::from(*row));
        if let Some(ids) = data.ids() {
            object.insert("id".to_owned(), Value::from(ids[*row].as_str()));
        }
        match (predictions.label(i), predictions.probabilities(i)) {
            (Some(label), Some(probabilities)) => {
                object.insert("class".to_owned(), Value::from(label));
                let names = predictions.classes().iter().cloned();
                let each = names
                    .zip(probabilities.into_iter().map(Value::from))
                    .collect();
                object.insert("probabilities".to_owned(), Value::Object(each));
            }
            _ => {
                object.insert("score".to_owned(), Value::from(predictions.scores(i)[0]));
            }
        }
        writeln!(text, "{}", Value::Object(object))?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
