//! Reading the container: one safetensors file a data set.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::array::{Array, Element, ElementKind};
use crate::bytes::Bytes;
use crate::fields::{Entry, Fields};
use crate::{Dataset, Error, Result};

/// The key of the metadata in the file's header.
pub(crate) const KEY: &str = "decalign";
/// The version of the container that this crate writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;

/// The metadata of the header. Every entry is optional.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Metadata {
    pub(crate) version: u32,
    /// The modalities in order.
    pub(crate) modalities: Vec<String>,
    /// The classes in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) classes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) texts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<Vec<String>>,
}

impl Dataset {
    /// Reads a data set from the bytes of a safetensors file; `origin` stands in errors.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn read_safetensors(bytes: &[u8], origin: &str) -> Result<Self> {
        read(bytes.to_vec().into(), origin)
    }
}

pub(crate) fn read(bytes: Bytes, origin: &str) -> Result<Dataset> {
    let (mut fields, header) = arrays(bytes, origin)?;
    let metadata: Metadata = match header.get(KEY) {
        Some(text) if text.starts_with("{\"version\":1,\"config\":") => {
            return Err(Error::format(
                origin,
                "this is a checkpoint, not a data set",
            ));
        }
        Some(text) => serde_json::from_str(text).map_err(|error| {
            Error::field(origin, format!("metadata \"{KEY}\""), error.to_string())
        })?,
        None => Metadata::default(),
    };
    if metadata.version > VERSION {
        let message = format!(
            "is {}, this program reads up to {VERSION}",
            metadata.version
        );
        return Err(Error::field(origin, "version", message));
    }
    fields.modalities = metadata.modalities;
    fields.classes = metadata.classes;
    let texts = [
        ("ids", metadata.ids),
        ("texts", metadata.texts),
        ("groups", metadata.groups),
    ];
    for (name, texts) in texts {
        if let Some(texts) = texts {
            fields.entries.push((name.to_owned(), Entry::Texts(texts)));
        }
    }
    fields.dataset()
}

/// The arrays of a safetensors file, and the metadata of its header.
pub(crate) fn arrays(bytes: Bytes, origin: &str) -> Result<(Fields, HashMap<String, String>)> {
    let bad = |error| Error::format(origin, format!("not a safetensors file: {error}"));
    let (size, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
    let start = size + 8;
    let mut names = header.offset_keys();
    names.sort_unstable();
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let Some(info) = header.info(&name) else {
            continue;
        };
        let says = |message: String| Error::field(origin, &name, message);
        let element = element(info.dtype)
            .ok_or_else(|| says(format!("elements {:?} are not known", info.dtype)))?;
        let (from, to) = info.data_offsets;
        let piece = bytes
            .slice(start + from..start + to)
            .ok_or_else(|| says("lies outside of the file".to_owned()))?;
        let array = Array::new(piece, element, info.shape.clone(), None).map_err(says)?;
        entries.push((name, Entry::Array(array)));
    }
    let fields = Fields {
        origin: origin.to_owned(),
        entries,
        ..Fields::default()
    };
    Ok((fields, header.metadata().clone().unwrap_or_default()))
}

fn element(dtype: Dtype) -> Option<Element> {
    let (kind, size) = match dtype {
        Dtype::BOOL => (ElementKind::Bool, 1),
        Dtype::U8 => (ElementKind::Unsigned, 1),
        Dtype::I8 => (ElementKind::Signed, 1),
        Dtype::I16 => (ElementKind::Signed, 2),
        Dtype::U16 => (ElementKind::Unsigned, 2),
        Dtype::F16 => (ElementKind::Float, 2),
        Dtype::BF16 => (ElementKind::BFloat16, 2),
        Dtype::I32 => (ElementKind::Signed, 4),
        Dtype::U32 => (ElementKind::Unsigned, 4),
        Dtype::F32 => (ElementKind::Float, 4),
        Dtype::F64 => (ElementKind::Float, 8),
        Dtype::I64 => (ElementKind::Signed, 8),
        Dtype::U64 => (ElementKind::Unsigned, 8),
        _ => return None,
    };
    Some(Element {
        kind,
        size,
        big_endian: false,
    })
}
