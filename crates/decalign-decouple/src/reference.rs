//! Losses in plain tensor operations: slow, obvious, differentiable by Candle itself.
//!
//! Measures have theirs beside them: [`Measure::reference`](crate::Measure::reference). Inputs are checked by the
//! fused functions, not here.

use candle_core::{D, Tensor};
use decalign_core::Result;

use crate::tensor::{NORM_FLOOR, over_root};

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

/// See [`crate::TripletMargin`]; it lists every triplet.
///
/// # Errors
/// When the shapes differ.
pub fn triplet_margin(common: &[Tensor], labels: &[i64], margin: f64) -> Result<Tensor> {
    let x = Tensor::cat(common, 0)?;
    let unit = over_root(&x, &x.sqr()?.sum_keepdim(1)?, NORM_FLOOR)?;
    let cosines = unit.matmul(&unit.t()?.contiguous()?)?.flatten_all()?;
    let (n, all) = (labels.len(), x.dim(0)?);
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for i in 0..all {
        let related = |j: &usize| (i / n == j / n, labels[i % n] == labels[j % n]);
        let positive = (0..all).filter(|j| related(j) == (false, true));
        for j in positive {
            for k in (0..all).filter(|k| related(k) == (true, false)) {
                near.push((i * all + j) as u32);
                far.push((i * all + k) as u32);
            }
        }
    }
    if near.is_empty() {
        // No triplet, but still a function of the parts.
        return Ok((cosines.sum_all()? * 0.0)?);
    }
    let pick = |at: Vec<u32>| -> Result<Tensor> {
        let count = at.len();
        let at = Tensor::from_vec(at, count, cosines.device())?;
        Ok(cosines.index_select(&at, 0)?)
    };
    Ok(((pick(far)? - pick(near)?)? + margin)?.relu()?.mean(0)?)
}

/// See [`crate::club`]; it loops over all pairs of samples in O(n^2 d).
///
/// # Errors
/// When the shapes differ.
pub fn club(y: &Tensor, mean: &Tensor, log_variance: &Tensor) -> Result<Tensor> {
    let n = y.dim(0)?;
    let precision = log_variance.neg()?.exp()?.unsqueeze(1)?;
    // [i, j]: log q(y_j | x_i), but for what does not depend on j.
    let apart = y.unsqueeze(0)?.broadcast_sub(&mean.unsqueeze(1)?)?.sqr()?;
    let likelihood = (apart.broadcast_mul(&precision)?.sum(D::Minus1)? * -0.5)?;
    let eye = Tensor::eye(n, y.dtype(), y.device())?;
    let own = ((&likelihood * &eye)?.sum_all()? / n as f64)?;
    let others = (likelihood * (eye.neg()? + 1.0)?)?;
    Ok((own - (others.sum_all()? / (n * (n - 1)) as f64)?)?)
}
