//! Ids, labels, splits, groups and texts of samples, as tables and JSON lines store them.

use crate::error::Parsed;
use crate::{Dataset, Labels, Part, Result};

/// Columns with one cell a sample; a cell may be empty.
#[derive(Default)]
pub(super) struct Samples {
    pub(super) ids: Vec<Option<String>>,
    pub(super) labels: Vec<Option<Label>>,
    pub(super) parts: Vec<Option<String>>,
    pub(super) groups: Vec<Option<String>>,
    pub(super) texts: Vec<Option<String>>,
}

/// A label before the kind of all labels is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Label {
    Score(f64),
    Class(i64),
    Name(String),
}

impl Label {
    /// Whole numbers are classes, others scores, words names of classes.
    pub(super) fn parse(text: &str) -> Self {
        if let Ok(class) = text.parse() {
            return Self::Class(class);
        }
        match text.parse() {
            Ok(score) => Self::Score(score),
            Err(_) => Self::Name(text.to_owned()),
        }
    }
}

impl Samples {
    /// Adds the columns to a data set. A column has all of its cells or none.
    pub(super) fn onto(self, mut data: Dataset) -> Result<Dataset> {
        if let Some(ids) = column(&data, "id", self.ids)? {
            data = data.with_ids(ids)?;
        }
        if let Some(texts) = column(&data, "text", self.texts)? {
            data = data.with_texts(texts)?;
        }
        if let Some(groups) = column(&data, "group", self.groups)? {
            data = data.with_groups(groups)?;
        }
        if let Some(labels) = column(&data, "label", self.labels)? {
            let labels = labels_of(labels).map_err(|message| data.error("label", message))?;
            data = data.with_labels(labels)?;
        }
        if self.parts.iter().any(Option::is_some) {
            let part = |(i, word): (usize, Option<String>)| {
                part_of(word.as_deref().unwrap_or_default()).ok_or_else(|| {
                    let word = word.unwrap_or_default();
                    let message =
                        format!("{word:?} of sample {i}; expected train, valid, test or none");
                    data.error("split", message)
                })
            };
            let parts = self.parts.into_iter().enumerate().map(part);
            let parts = parts.collect::<Result<Vec<_>>>()?;
            data = data.with_split("", parts)?;
        }
        Ok(data)
    }
}

fn column<T>(data: &Dataset, name: &str, cells: Vec<Option<T>>) -> Result<Option<Vec<T>>> {
    if cells.iter().all(Option::is_none) {
        return Ok(None);
    }
    match cells.iter().position(Option::is_none) {
        None => Ok(Some(cells.into_iter().flatten().collect())),
        Some(i) => Err(data.error(name, format!("missing for sample {i}, others have it"))),
    }
}

/// Classes when all are whole numbers or all are words, scores when all are numbers.
fn labels_of(labels: Vec<Label>) -> Parsed<Labels> {
    let words = labels
        .iter()
        .filter(|l| matches!(l, Label::Name(_)))
        .count();
    if words == labels.len() {
        let word = |label: Label| match label {
            Label::Name(name) => name,
            _ => String::new(),
        };
        let words: Vec<String> = labels.into_iter().map(word).collect();
        let mut names = words.clone();
        names.sort_unstable();
        names.dedup();
        let place = |word: &String| names.binary_search(word).unwrap_or(0) as u32;
        let values = words.iter().map(place).collect();
        return Ok(Labels::Classes { values, names });
    }
    if words > 0 {
        let first = labels.iter().find(|l| matches!(l, Label::Name(_)));
        return Err(format!("{first:?} among numbers"));
    }
    let class = |label: &Label| match label {
        Label::Class(class) => Some(*class),
        _ => None,
    };
    if let Some(values) = labels.iter().map(class).collect::<Option<Vec<i64>>>()
        && values.iter().all(|v| *v >= 0)
    {
        return crate::fields::classes(&values, Vec::new());
    }
    let score = |label: &Label| match label {
        Label::Class(class) => *class as f32,
        Label::Score(score) => *score as f32,
        Label::Name(_) => f32::NAN,
    };
    Ok(Labels::Scores(labels.iter().map(score).collect()))
}

/// The part that a word names; `Some(None)` for no part.
fn part_of(word: &str) -> Option<Option<Part>> {
    Some(match word.trim() {
        "train" | "0" => Some(Part::Train),
        "valid" | "validation" | "val" | "dev" | "1" => Some(Part::Valid),
        "test" | "2" => Some(Part::Test),
        "" | "none" | "-1" => None,
        _ => return None,
    })
}
