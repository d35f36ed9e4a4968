//! One vector a sequence.

use candle_core::Tensor;
use decalign_core::{Error, Result};

/// The mean over time, or over the steps that exist: `sum_t m_t x_t / max(sum_t m_t, 1)`.
///
/// # Shapes
/// `x` (B, T, d), `mask` (B, T); the result is (B, d). A sequence without steps gives zeros.
///
/// # Errors
/// When the shapes do not fit.
pub fn mean_pool(x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (batch, steps, width) = x
        .dims3()
        .map_err(|_| Error::tensor("pooled sequence", "shape (B, T, d)", x.shape()))?;
    let Some(mask) = mask else {
        return match steps {
            1 => Ok(x.reshape((batch, width))?),
            _ => Ok(x.mean(1)?),
        };
    };
    if mask.dims() != [batch, steps] {
        return Err(Error::tensor(
            "pooling mask",
            format!("shape ({batch}, {steps})"),
            mask.shape(),
        ));
    }
    let mask = mask.to_dtype(x.dtype())?;
    let count = mask.sum_keepdim(1)?.maximum(1.0)?;
    let sum = x.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
    Ok(sum.broadcast_div(&count)?)
}
