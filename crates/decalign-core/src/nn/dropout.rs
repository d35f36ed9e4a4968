//! Dropout that a seed repeats.

use candle_core::{DType, Tensor};

use crate::random::Stream;
use crate::{Error, Result};

/// Dropout (Srivastava and others, 2014): each element is zero with probability `p`, and
/// otherwise divided by `1 - p`. The stream decides which; with `p = 0` the input comes back.
///
/// # Shapes
/// Any; the result has the shape of `x`. `p` lies in [0, 1).
///
/// # Errors
/// When `p` is outside its range.
pub fn dropout(x: &Tensor, p: f64, stream: Stream) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::value("dropout probability", p, "must lie in [0, 1)"));
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let scale = (1.0 / (1.0 - p)) as f32;
    let mask: Vec<f32> = stream
        .bernoulli(x.elem_count(), 1.0 - p)
        .into_iter()
        .map(|keep| if keep { scale } else { 0.0 })
        .collect();
    let mask = Tensor::from_vec(mask, x.dims(), x.device())?;
    let mask = match x.dtype() {
        DType::F32 => mask,
        // The exact scale, not its f32 rounding.
        dtype => ((mask / f64::from(scale))?.to_dtype(dtype)? / (1.0 - p))?,
    };
    Ok((x * mask)?)
}
