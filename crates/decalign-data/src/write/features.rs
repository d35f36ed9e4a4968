//! Features as the bytes of a file, chunk by chunk.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Precision;
use crate::{Error, Modality, Result};

/// Bytes that are written at once, about.
const CHUNK: usize = 4 << 20;

/// Passes the bytes of samples to `put`, little-endian in C order, chunk by chunk.
///
/// Features that the source stores in this form are not copied.
pub(super) fn write_chunks(
    modality: &Modality,
    rows: &[usize],
    precision: Precision,
    origin: &str,
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let size = modality.steps() * modality.width();
    let most = (CHUNK / (4 * size)).max(1);
    let mut at = 0;
    while at < rows.len() {
        let run = consecutive(&rows[at..]).min(most);
        let plain = modality.source().plain(rows[at], run);
        if let (Precision::F32, Some((count, bytes))) = (precision, plain) {
            put(bytes)?;
            at += count;
            continue;
        }
        let end = rows.len().min(at + most);
        let numbers = modality.source().gather(&rows[at..end])?;
        put(&encode(&numbers, precision, modality, origin)?)?;
        at = end;
    }
    Ok(())
}

/// The number of consecutive rows at the beginning.
fn consecutive(rows: &[usize]) -> usize {
    let steps = rows.windows(2).take_while(|pair| pair[1] == pair[0] + 1);
    steps.count() + 1
}

fn encode(
    numbers: &[f32],
    precision: Precision,
    modality: &Modality,
    origin: &str,
) -> Result<Vec<u8>> {
    if precision == Precision::F32 {
        return Ok(numbers.iter().flat_map(|v| v.to_le_bytes()).collect());
    }
    let mut halves = vec![f16::ZERO; numbers.len()];
    halves.convert_from_f32_slice(numbers);
    let lost = numbers
        .iter()
        .zip(&halves)
        .find(|(v, h)| v.is_finite() && !h.is_finite());
    if let Some((value, _)) = lost {
        let message = format!("{value} is beyond the 65504 that f16 holds; write f32");
        return Err(Error::field(origin, modality.name(), message));
    }
    Ok(halves.iter().flat_map(|v| v.to_le_bytes()).collect())
}
