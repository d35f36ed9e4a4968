//! Safetensors files that know when they were damaged.
//!
//! The JSON text in the header ends with a checksum: the BLAKE3 hash of the whole file with the checksum's own
//! digits as zeros. Every bit of the file is covered, and it stays a safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The last field of the header's JSON text.
pub(crate) const FIELD: &str = "checksum";
/// Hexadecimal digits of a hash.
const DIGITS: usize = 2 * blake3::OUT_LEN;

/// The bytes of a safetensors file of `tensors`, whose header's entry `key` is `header` with the checksum as its
/// last field.
pub(crate) fn seal(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    key: &str,
    mut header: Map<String, Value>,
) -> Result<Vec<u8>> {
    header.insert(FIELD.to_owned(), Value::from("0".repeat(DIGITS)));
    let text = Value::Object(header).to_string();
    let metadata = HashMap::from([(key.to_owned(), text)]);
    let mut bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| Error::file(path, error))?;
    let Some(at) = digits(&bytes) else {
        return Err(Error::file(path, "no place for a checksum in its header"));
    };
    let hash = blake3::hash(&bytes).to_hex();
    bytes[at..at + DIGITS].copy_from_slice(hash.as_bytes());
    Ok(bytes)
}

/// Fails when a file has a checksum that is not that of its content.
pub(crate) fn verify(path: &Path, bytes: &[u8]) -> Result<()> {
    let Some(at) = digits(bytes) else {
        return Ok(());
    };
    let (before, rest) = bytes.split_at(at);
    let (claimed, after) = rest.split_at(DIGITS);
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(&[b'0'; DIGITS]).update(after);
    match hasher.finalize().to_hex().as_bytes() == claimed {
        true => Ok(()),
        false => Err(Error::file(
            path,
            "damaged: its content is not what its checksum says, it was cut short or changed",
        )),
    }
}

/// Where the digits of the checksum are, if the header has one.
fn digits(bytes: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(bytes.first_chunk().copied()?);
    let end = usize::try_from(length)
        .ok()?
        .saturating_add(8)
        .min(bytes.len());
    // The JSON text is itself a string of the header's JSON.
    let before = format!("\\\"{FIELD}\\\":\\\"");
    let header = bytes.get(8..end)?;
    let mut windows = header.windows(before.len());
    let at = 8 + windows.rposition(|window| window == before.as_bytes())? + before.len();
    (at + DIGITS <= bytes.len()).then_some(at)
}
