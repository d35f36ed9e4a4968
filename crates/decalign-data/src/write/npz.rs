//! numpy's archive of arrays, under the names of `docs/data-format.md`.

use std::io::{BufWriter, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Output, unwritable};
use crate::{Dataset, Labels, Part, Result};

pub(super) fn write(data: &Dataset, out: &mut Output<'_>) -> Result<()> {
    let origin = data.origin().to_owned();
    let fail = |error: &dyn std::fmt::Display| unwritable(&origin, error);
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    let precision = out.precision;
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut zip = ZipWriter::new(BufWriter::new(&mut out.file));
    let (mut written, total) = (0u64, out.total);
    for modality in data.modalities() {
        let shape = [data.len(), modality.steps(), modality.width()];
        let name = format!("features.{}.npy", modality.name());
        zip.start_file(name, stored).map_err(|e| fail(&e))?;
        zip.write_all(&header(&format!("<{}", precision.numpy()), &shape))
            .map_err(|e| fail(&e))?;
        super::parts::pieces(modality, &rows, precision, &origin, &mut |bytes| {
            zip.write_all(bytes).map_err(|e| fail(&e))?;
            written += bytes.len() as u64;
            (out.progress)(written, total);
            Ok(())
        })?;
    }
    for (name, descr, shape, bytes) in small(data)? {
        zip.start_file(format!("{name}.npy"), stored)
            .map_err(|e| fail(&e))?;
        zip.write_all(&header(&descr, &shape))
            .and_then(|()| zip.write_all(&bytes))
            .map_err(|e| fail(&e))?;
    }
    let mut inner = zip.finish().map_err(|e| fail(&e))?;
    inner.flush().map_err(|e| fail(&e))
}

type Small = (String, String, Vec<usize>, Vec<u8>);

/// Everything but features: name, element, shape, bytes.
fn small(data: &Dataset) -> Result<Vec<Small>> {
    let n = data.len();
    let integers = |name: String, values: Vec<i64>| {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name, "<i8".to_owned(), vec![n], bytes)
    };
    let mut all = Vec::new();
    for modality in data.modalities() {
        if let Some(lengths) = modality.lengths() {
            let lengths = lengths.iter().map(|l| *l as i64).collect();
            all.push(integers(format!("lengths.{}", modality.name()), lengths));
        }
    }
    for split in data.splits() {
        let codes = split.parts.iter().map(|p| p.map_or(-1, Part::code));
        all.push(integers(split.field.clone(), codes.collect()));
    }
    match data.labels() {
        Some(Labels::Scores(values)) => {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            all.push(("labels".to_owned(), "<f4".to_owned(), vec![n], bytes));
        }
        Some(Labels::Classes { values, .. }) => {
            let values = values.iter().map(|v| i64::from(*v)).collect();
            all.push(integers("labels".to_owned(), values));
        }
        None => {}
    }
    if let Some(tokens) = data.tokens() {
        let numbers = tokens.gather(&(0..n).collect::<Vec<_>>())?;
        let bytes = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let name = format!("tokens.{}", tokens.name());
        all.push((name, "<i4".to_owned(), vec![n, 3, tokens.steps()], bytes));
    }
    let modalities: Vec<String> = data
        .modalities()
        .iter()
        .map(|m| m.name().to_owned())
        .collect();
    let classes = data.labels().map(Labels::names).filter(|c| !c.is_empty());
    let texts = [
        ("ids", data.ids()),
        ("texts", data.texts()),
        ("groups", data.groups()),
        ("classes", classes),
        ("modalities", Some(modalities.as_slice())),
    ];
    for (name, strings) in texts {
        if let Some(strings) = strings {
            all.push(unicode(name, strings));
        }
    }
    Ok(all)
}

/// Strings as numpy has them: four bytes a character, all as long as the longest.
fn unicode(name: &str, strings: &[String]) -> Small {
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
