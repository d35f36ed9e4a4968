//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::Tensor;
use decalign_core::Result;

use crate::NORM_FLOOR;

/// See [`crate::cosine_squared`].
///
/// # Errors
/// When the shapes differ.
pub fn cosine_squared(s: &Tensor, c: &Tensor) -> Result<Tensor> {
    let (s, c) = (s.flatten_from(1)?, c.flatten_from(1)?);
    // Square roots of the floored squares: the root of 0 has an infinite gradient.
    let norm = |x: &Tensor| x.sqr()?.sum(1)?.maximum(NORM_FLOOR * NORM_FLOOR)?.sqrt();
    let cosine = ((&s * &c)?.sum(1)? / norm(&s)?)?.div(&norm(&c)?)?;
    Ok(cosine.sqr()?.mean(0)?)
}
