//! numpy's archive of arrays.

use std::io::{BufWriter, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::fields::{fields, modality_names};
use super::{Output, unwritable};
use crate::{Dataset, Labels, Result};

pub(super) fn write(data: &Dataset, out: &mut Output<'_>) -> Result<()> {
    let origin = data.origin().to_owned();
    let fail = |error: &dyn std::fmt::Display| unwritable(&origin, error);
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    let precision = out.precision;
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut zip = ZipWriter::new(BufWriter::new(&mut out.file));
    let mut written = 0u64;
    for modality in data.modalities() {
        let shape = [data.len(), modality.steps(), modality.width()];
        let name = format!("features.{}.npy", modality.name());
        zip.start_file(name, stored).map_err(|e| fail(&e))?;
        zip.write_all(&header(&format!("<{}", precision.numpy()), &shape))
            .map_err(|e| fail(&e))?;
        super::features::write_chunks(modality, &rows, precision, &origin, &mut |bytes| {
            zip.write_all(bytes).map_err(|e| fail(&e))?;
            written += bytes.len() as u64;
            (out.progress)(written, out.total);
            Ok(())
        })?;
    }
    for (name, descr, shape, bytes) in small_arrays(data)? {
        zip.start_file(format!("{name}.npy"), stored)
            .map_err(|e| fail(&e))?;
        zip.write_all(&header(&descr, &shape))
            .and_then(|()| zip.write_all(&bytes))
            .map_err(|e| fail(&e))?;
    }
    let mut inner = zip.finish().map_err(|e| fail(&e))?;
    inner.flush().map_err(|e| fail(&e))
}

/// An array of the archive: name, element, shape, bytes.
type Array = (String, String, Vec<usize>, Vec<u8>);

/// Every array but the features.
fn small_arrays(data: &Dataset) -> Result<Vec<Array>> {
    let fields = fields(data)?.into_iter();
    let fields = fields.map(|f| (f.name, f.element.numpy().to_owned(), f.shape, f.bytes));
    let modalities = modality_names(data);
    let classes = data.labels().map(Labels::names).filter(|c| !c.is_empty());
    let texts = [
        ("ids", data.ids()),
        ("texts", data.texts()),
        ("groups", data.groups()),
        ("classes", classes),
        ("modalities", Some(modalities.as_slice())),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, strings)| Some(unicode(name, strings?)));
    Ok(fields.chain(texts).collect())
}

/// Strings in the layout of numpy: four bytes a character, padded to the longest.
fn unicode(name: &str, strings: &[String]) -> Array {
    let longest = strings.iter().map(|s| s.chars().count()).max().unwrap_or(0);
    let longest = longest.max(1);
    let mut bytes = Vec::with_capacity(4 * longest * strings.len());
    for string in strings {
        let letters = string.chars().map(u32::from);
        let padded = letters.chain(std::iter::repeat(0)).take(longest);
        bytes.extend(padded.flat_map(u32::to_le_bytes));
    }
    let shape = vec![strings.len()];
    (name.to_owned(), format!("<U{longest}"), shape, bytes)
}

/// A version 1 header, padded so that elements are aligned to 64 bytes.
pub(super) fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}
