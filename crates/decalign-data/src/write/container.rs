//! The project's container, written piece by piece.

use serde_json::{Map, Value, json};

use super::{Output, Precision, unwritable};
use crate::container::{KEY, Metadata, VERSION};
use crate::split::Split;
use crate::{Dataset, Labels, Part, Result};

/// What a tensor of the file is made of.
enum Content<'a> {
    Features(&'a crate::Modality),
    Numbers(Vec<u8>),
}

struct Entry<'a> {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    content: Content<'a>,
}

pub(super) fn write(data: &Dataset, out: &mut Output<'_>) -> Result<()> {
    let entries = entries(data, out.precision)?;
    let header = header(data, &entries, out.precision)?;
    out.put(&(header.len() as u64).to_le_bytes())?;
    out.put(header.as_bytes())?;
    let rows: Vec<usize> = (0..data.len()).collect();
    for entry in &entries {
        match &entry.content {
            Content::Features(modality) => out.features(modality, &rows, data.origin())?,
            Content::Numbers(bytes) => out.put(bytes)?,
        }
    }
    Ok(())
}

/// The header: names, types, shapes and places of all tensors, then spaces up to a multiple of 8.
fn header(data: &Dataset, entries: &[Entry<'_>], precision: Precision) -> Result<String> {
    let strings = |list: Option<&[String]>| list.map(<[String]>::to_vec);
    let metadata = Metadata {
        version: VERSION,
        modalities: names(data),
        classes: data
            .labels()
            .map(|l| l.names().to_vec())
            .unwrap_or_default(),
        ids: strings(data.ids()),
        texts: strings(data.texts()),
        groups: strings(data.groups()),
    };
    let metadata =
        serde_json::to_string(&metadata).map_err(|error| unwritable(data.origin(), error))?;
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ KEY: metadata }));
    let mut start = 0;
    for entry in entries {
        let length = match &entry.content {
            Content::Features(_) => entry.shape.iter().product::<usize>() * precision.size(),
            Content::Numbers(bytes) => bytes.len(),
        };
        let info = json!({
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": [start, start + length],
        });
        header.insert(entry.name.clone(), info);
        start += length;
    }
    let mut text = Value::Object(header).to_string();
    let padding = text.len().next_multiple_of(8) - text.len();
    text.extend(std::iter::repeat_n(' ', padding));
    Ok(text)
}

fn names(data: &Dataset) -> Vec<String> {
    let modalities = data.modalities().iter();
    modalities.map(|m| m.name().to_owned()).collect()
}

/// The tensors, those of large elements first so that every one is aligned.
fn entries(data: &Dataset, precision: Precision) -> Result<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let integers = |name: String, values: Vec<i64>| Entry {
        name,
        dtype: "I64",
        shape: vec![values.len()],
        content: Content::Numbers(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    for modality in data.modalities() {
        if let Some(lengths) = modality.lengths() {
            let lengths = lengths.iter().map(|l| *l as i64).collect();
            entries.push(integers(format!("lengths.{}", modality.name()), lengths));
        }
    }
    for Split { field, parts } in data.splits() {
        let codes = parts.iter().map(|p| p.map_or(-1, Part::code)).collect();
        entries.push(integers(field.clone(), codes));
    }
    match data.labels() {
        Some(Labels::Classes { values, .. }) => {
            let values = values.iter().map(|v| i64::from(*v)).collect();
            entries.push(integers("labels".to_owned(), values));
        }
        Some(Labels::Scores(values)) => entries.push(Entry {
            name: "labels".to_owned(),
            dtype: "F32",
            shape: vec![values.len()],
            content: Content::Numbers(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        }),
        None => {}
    }
    if let Some(tokens) = data.tokens() {
        let all: Vec<usize> = (0..data.len()).collect();
        let numbers = tokens.gather(&all)?;
        entries.push(Entry {
            name: format!("tokens.{}", tokens.name()),
            dtype: "I32",
            shape: vec![data.len(), 3, tokens.steps()],
            content: Content::Numbers(numbers.iter().flat_map(|v| v.to_le_bytes()).collect()),
        });
    }
    let dtype = match precision {
        Precision::F32 => "F32",
        Precision::F16 => "F16",
    };
    for modality in data.modalities() {
        entries.push(Entry {
            name: format!("features.{}", modality.name()),
            dtype,
            shape: vec![data.len(), modality.steps(), modality.width()],
            content: Content::Features(modality),
        });
    }
    Ok(entries)
}
