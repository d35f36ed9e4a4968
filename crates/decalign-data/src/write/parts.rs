//! Features on their way into a file.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Precision;
use crate::{Error, Modality, Result};

/// Bytes that go out at once, about.
const PIECE: usize = 4 << 20;

/// Gives the bytes of samples, little-endian in C order, piece by piece.
///
/// Where the source has them as they will be, they are not copied.
pub(super) fn pieces(
    modality: &Modality,
    rows: &[usize],
    precision: Precision,
    origin: &str,
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let size = modality.steps() * modality.width();
    let most = (PIECE / (4 * size)).max(1);
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

/// How many of the first rows follow one another.
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
