//! JSON lines: one object a sample.

use std::path::Path;

use serde_json::{Map, Value};

use super::samples::{Label, Samples};
use super::table::sequences;
use crate::bytes::Bytes;
use crate::error::Parsed;
use crate::{Dataset, Error, Modality, ModalityKind, Result};

/// Adds the labels, splits, ids and texts of a file of lines to a data set; features in it are an error.
pub(super) fn onto(path: &Path, data: Dataset) -> Result<Dataset> {
    let origin = path.display().to_string();
    let file = Lines::open(path, &origin)?;
    if let Some(column) = file.features.first() {
        let message = "features are not read from this file; put them into an array file";
        return Err(Error::field(&origin, &column.name, message));
    }
    if file.count != data.len() {
        let message = format!("{} lines for {} samples", file.count, data.len());
        return Err(Error::format(&origin, message));
    }
    file.samples.onto(data)
}

/// Reads a file. Features that it lacks are read from the `.safetensors` or `.npz` file of the same name, if there is one;
/// else samples have texts only.
pub(crate) fn read(path: &Path) -> Result<Dataset> {
    let origin = path.display().to_string();
    let mut file = Lines::open(path, &origin)?;
    let data = if file.features.is_empty() {
        beside(path, &origin, &file)?
    } else {
        let mut features = std::mem::take(&mut file.features);
        features.sort_by_cached_key(|f| (ModalityKind::of(&f.name), f.name.clone()));
        let modalities = features
            .into_iter()
            .map(|f| f.modality(&origin, file.count));
        Dataset::new(&origin, modalities.collect::<Result<_>>()?)?
    };
    file.samples.onto(data)
}

/// The data set of the features in the file of the same name, or one without features.
fn beside(path: &Path, origin: &str, file: &Lines) -> Result<Dataset> {
    let other = ["safetensors", "npz"].map(|e| path.with_extension(e));
    match other.iter().find(|other| other.is_file()) {
        Some(other) => {
            let data = Dataset::open(other)?;
            match data.len() == file.count {
                true => Ok(data.with_features_only()),
                false => {
                    let message = format!(
                        "{} lines, but {} has {} samples",
                        file.count,
                        other.display(),
                        data.len()
                    );
                    Err(Error::format(origin, message))
                }
            }
        }
        None => match file.samples.texts.iter().all(Option::is_some) {
            true => Ok(Dataset::without_features(origin, file.count)),
            false => Err(Error::format(
                origin,
                "neither features nor texts of every sample",
            )),
        },
    }
}

#[derive(Default)]
struct Lines {
    count: usize,
    samples: Samples,
    features: Vec<Column>,
}

/// The features of a modality, sample by sample.
struct Column {
    name: String,
    width: usize,
    lengths: Vec<usize>,
    numbers: Vec<f32>,
    sequences: bool,
}

impl Lines {
    fn open(path: &Path, origin: &str) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let mut file = Self::default();
        let lines = text.lines().enumerate();
        for (i, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let says = |message: String| Error::field(origin, format!("line {}", i + 1), message);
            let object: Map<String, Value> = serde_json::from_str(line)
                .map_err(|error| says(format!("not an object: {error}")))?;
            file.add(object).map_err(says)?;
        }
        if file.count == 0 {
            return Err(Error::format(origin, "holds no sample"));
        }
        Ok(file)
    }

    fn add(&mut self, object: Map<String, Value>) -> Parsed {
        let mut own = (None, None, None, None, None);
        for (key, value) in object {
            match (key.as_str(), value) {
                ("id", value) => own.0 = Some(word(&key, value)?),
                ("text" | "raw_text", Value::String(text)) => own.1 = Some(text),
                ("group" | "video", value) => own.2 = Some(word(&key, value)?),
                ("split", value) => own.3 = Some(word(&key, value)?),
                ("label", value) => own.4 = Some(label(value)?),
                (_, Value::Null) => {}
                (_, Value::Array(values)) => self.features(&key, values)?,
                (_, value) => {
                    let shown: String = value.to_string().chars().take(40).collect();
                    return Err(format!("{key}: {shown} is neither features nor known"));
                }
            }
        }
        self.count += 1;
        self.samples.ids.push(own.0);
        self.samples.texts.push(own.1);
        self.samples.groups.push(own.2);
        self.samples.parts.push(own.3);
        self.samples.labels.push(own.4);
        Ok(())
    }

    /// A list of numbers, one step, or a list of such lists, one a step.
    fn features(&mut self, key: &str, values: Vec<Value>) -> Parsed {
        let at = self.features.iter().position(|f| f.name == key);
        let at = at.unwrap_or_else(|| {
            self.features.push(Column {
                name: key.to_owned(),
                width: 0,
                lengths: Vec::new(),
                numbers: Vec::new(),
                sequences: false,
            });
            self.features.len() - 1
        });
        let column = &mut self.features[at];
        // Earlier samples lack the modality.
        column.lengths.resize(self.count, 0);
        let deep = values.iter().any(Value::is_array);
        column.sequences |= deep;
        let steps = if deep {
            values
        } else {
            vec![Value::Array(values)]
        };
        column.lengths.push(steps.len());
        for step in steps {
            let Value::Array(step) = step else {
                return Err(format!("{key}: numbers beside lists"));
            };
            if column.width == 0 {
                column.width = step.len();
            }
            if step.len() != column.width || step.is_empty() {
                let message = format!("{key}: {} features after {}", step.len(), column.width);
                return Err(message);
            }
            for value in step {
                let number = value.as_f64().or(value.is_null().then_some(f64::NAN));
                let number = number.ok_or_else(|| format!("{key}: a value that is no number"))?;
                column.numbers.push(number as f32);
            }
        }
        Ok(())
    }
}

impl Column {
    fn modality(mut self, origin: &str, count: usize) -> Result<Modality> {
        self.lengths.resize(count, 0);
        let says = |message: String| Error::field(origin, &self.name, message);
        let bytes: Vec<u8> = self.numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let blocks = sequences(&Bytes::from(bytes), &self.lengths, self.width).map_err(says)?;
        let same = self.lengths.windows(2).all(|pair| pair[0] == pair[1]);
        Modality::stored(&self.name, blocks, (!same).then_some(self.lengths), origin)
    }
}

fn word(key: &str, value: Value) -> Parsed<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("{key}: expected a string")),
    }
}

fn label(value: Value) -> Parsed<Label> {
    match value {
        Value::String(name) => Ok(Label::Name(name)),
        Value::Number(number) => Ok(match number.as_i64() {
            Some(class) => Label::Class(class),
            None => Label::Score(number.as_f64().unwrap_or(f64::NAN)),
        }),
        _ => Err("label: expected a number or the name of a class".to_owned()),
    }
}
