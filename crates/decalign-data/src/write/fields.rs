//! The fields of a data set besides features and strings, as every format of named arrays stores them.

use crate::{Dataset, Labels, Part, Result};

/// A small array: lengths, a split, labels or tokens.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    /// Little-endian, in C order.
    pub(super) bytes: Vec<u8>,
}

/// The elements of a [`Field`].
#[derive(Clone, Copy)]
pub(super) enum Element {
    I64,
    I32,
    F32,
}

impl Element {
    pub(super) fn safetensors(self) -> &'static str {
        ["I64", "I32", "F32"][self as usize]
    }

    pub(super) fn numpy(self) -> &'static str {
        ["<i8", "<i4", "<f4"][self as usize]
    }
}

/// All small arrays: lengths, splits, labels, tokens.
pub(super) fn fields(data: &Dataset) -> Result<Vec<Field>> {
    let integers = |name: String, values: &mut dyn Iterator<Item = i64>| Field {
        name,
        element: Element::I64,
        shape: vec![data.len()],
        bytes: values.flat_map(i64::to_le_bytes).collect(),
    };
    let mut fields = Vec::new();
    for modality in data.modalities() {
        if let Some(lengths) = modality.lengths() {
            let name = format!("lengths.{}", modality.name());
            fields.push(integers(name, &mut lengths.iter().map(|l| *l as i64)));
        }
    }
    for split in data.splits() {
        let mut codes = split.parts.iter().map(|p| p.map_or(-1, Part::code));
        fields.push(integers(split.field.clone(), &mut codes));
    }
    match data.labels() {
        Some(Labels::Classes { values, .. }) => {
            let mut values = values.iter().map(|v| i64::from(*v));
            fields.push(integers("labels".to_owned(), &mut values));
        }
        Some(Labels::Scores(values)) => fields.push(Field {
            name: "labels".to_owned(),
            element: Element::F32,
            shape: vec![values.len()],
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }),
        None => {}
    }
    if let Some(tokens) = data.tokens() {
        let all: Vec<usize> = (0..data.len()).collect();
        let numbers = tokens.gather(&all)?;
        fields.push(Field {
            name: format!("tokens.{}", tokens.name()),
            element: Element::I32,
            shape: vec![data.len(), 3, tokens.steps()],
            bytes: numbers.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
    }
    Ok(fields)
}

/// The names of the modalities, in order.
pub(super) fn modality_names(data: &Dataset) -> Vec<String> {
    let modalities = data.modalities().iter();
    modalities.map(|m| m.name().to_owned()).collect()
}
