//! Steps that references share, in plain tensor operations.

use candle_core::Tensor;
use decalign_core::Result;

/// Norms are not taken below this, so that a zero part has cosine 0 and a finite gradient.
pub const NORM_FLOOR: f64 = 1e-8;

/// `x / sqrt(squared)`, and 0 with gradient 0 where the root is at most `floor`.
pub(crate) fn over_root(x: &Tensor, squared: &Tensor, floor: f64) -> Result<Tensor> {
    let positive = squared.gt(floor * floor)?;
    let root = positive
        .where_cond(squared, &squared.ones_like()?)?
        .sqrt()?;
    let mask = positive.to_dtype(x.dtype())?;
    Ok(x.broadcast_div(&root)?.broadcast_mul(&mask)?)
}

/// Rows without their mean; a constant column becomes exactly 0.
pub(crate) fn centred(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.narrow(0, 0, 1)?.detach())?;
    Ok(x.broadcast_sub(&x.mean_keepdim(0)?)?)
}

/// `A^T B`.
pub(crate) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.t()?.contiguous()?.matmul(&b.contiguous()?)?)
}
