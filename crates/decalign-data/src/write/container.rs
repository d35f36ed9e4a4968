//! The container: a safetensors file whose header is written by hand, so that features are streamed chunk by chunk.

use serde_json::{Map, Value, json};

use super::fields::{fields, modality_names};
use super::{Output, Precision, unwritable};
use crate::container::{KEY, Metadata, VERSION};
use crate::{Dataset, Result};

pub(super) fn write(data: &Dataset, out: &mut Output<'_>) -> Result<()> {
    let fields = fields(data)?;
    let mut tensors = Tensors::default();
    // Fields of large elements come first, so that every tensor is aligned.
    for field in &fields {
        let dtype = field.element.safetensors();
        tensors.push(field.name.clone(), dtype, &field.shape, field.bytes.len());
    }
    let dtype = match out.precision {
        Precision::F32 => "F32",
        Precision::F16 => "F16",
    };
    for modality in data.modalities() {
        let shape = [data.len(), modality.steps(), modality.width()];
        let length = shape.iter().product::<usize>() * out.precision.size();
        tensors.push(
            format!("features.{}", modality.name()),
            dtype,
            &shape,
            length,
        );
    }
    let header = header(data, tensors.header)?;
    out.put(&(header.len() as u64).to_le_bytes())?;
    out.put(header.as_bytes())?;
    for field in &fields {
        out.put(&field.bytes)?;
    }
    let rows: Vec<usize> = (0..data.len()).collect();
    for modality in data.modalities() {
        out.features(modality, &rows, data.origin())?;
    }
    Ok(())
}

/// The entries of the header, in the order of the tensors in the file.
#[derive(Default)]
struct Tensors {
    header: Map<String, Value>,
    /// Bytes of all tensors so far.
    end: usize,
}

impl Tensors {
    fn push(&mut self, name: String, dtype: &str, shape: &[usize], length: usize) {
        let end = self.end + length;
        let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [self.end, end]});
        self.header.insert(name, info);
        self.end = end;
    }
}

/// The text of the header: metadata, then all tensors, then spaces up to a multiple of 8.
fn header(data: &Dataset, tensors: Map<String, Value>) -> Result<String> {
    let strings = |list: Option<&[String]>| list.map(<[String]>::to_vec);
    let metadata = Metadata {
        version: VERSION,
        modalities: modality_names(data),
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
    let metadata = ("__metadata__".to_owned(), json!({ KEY: metadata }));
    let header: Map<String, Value> = std::iter::once(metadata).chain(tensors).collect();
    let mut text = Value::Object(header).to_string();
    let padding = text.len().next_multiple_of(8) - text.len();
    text.extend(std::iter::repeat_n(' ', padding));
    Ok(text)
}
