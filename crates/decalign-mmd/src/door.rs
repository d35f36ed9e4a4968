//! What every operation asks of its samples.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result};

/// The width that all samples share; each has at least `least` rows.
pub(crate) fn check(samples: &[Tensor], least: usize) -> Result<usize> {
    let Some(first) = samples.first().filter(|_| samples.len() >= 2) else {
        return Err(Error::value(
            "number of samples",
            samples.len(),
            "at least two are compared",
        ));
    };
    let width = match first.dims() {
        [_, width] if *width > 0 => *width,
        _ => {
            return Err(Error::tensor(
                "sample 0",
                "shape (n, d) with d >= 1",
                first.shape(),
            ));
        }
    };
    for (i, x) in samples.iter().enumerate() {
        let fits = matches!(x.dims(), [n, d] if *n >= least && *d == width);
        if !fits || x.dtype() != first.dtype() {
            let expected = format!("shape (n >= {least}, {width}) of {:?}", first.dtype());
            return Err(Error::tensor(
                format!("sample {i}"),
                expected,
                (x.shape(), x.dtype()),
            ));
        }
    }
    Ok(width)
}

/// An error that counts and locates what is not finite.
pub(crate) fn check_finite<T: Real>(sample: usize, x: &[T], width: usize) -> Result<()> {
    let Some(first) = x.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let count = x.iter().filter(|v| !v.is_finite()).count();
    let name = format!(
        "sample {sample} at row {}, column {}",
        first / width,
        first % width
    );
    Err(Error::value(
        name,
        x[first],
        format!("must be finite ({count} entries are not)"),
    ))
}
