//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::{D, Tensor};
use decalign_core::nn::reference::softmax;
use decalign_core::{Error, Result};

use crate::covariance::Covariance;
use crate::release::{MASS_FLOOR, UnrolledEm, UnrolledFit, WEIGHT_FLOOR};

/// See [`UnrolledEm::fit`]. The release's formulas as they stand, on data as given.
///
/// # Errors
/// When `x` has another rank.
pub fn fit(settings: &UnrolledEm, x: &Tensor) -> Result<UnrolledFit> {
    let (batch, width) = x.dims2()?;
    // Rows are picked from contiguous tensors only.
    let x = &x.contiguous()?;
    let k = settings.components;
    let starts: Vec<u32> = settings
        .starts(batch)
        .into_iter()
        .map(|i| i as u32)
        .collect();
    let starts = Tensor::from_vec(starts, k, x.device())?;
    let mut means = x.index_select(&starts, 0)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let variance = floor(&centred.sqr()?.mean_keepdim(0)?, settings.variance_floor)?;
    let mut variances = variance.broadcast_as((k, width))?.contiguous()?;
    let mut weights = Tensor::full(1.0 / k as f64, k, x.device())?.to_dtype(x.dtype())?;
    let mut responsibilities = expect(x, &weights, &means, &variances)?;
    for _ in 0..settings.iterations {
        let transposed = responsibilities.t()?.contiguous()?;
        let mass = floor(&transposed.sum(1)?, MASS_FLOOR)?;
        let each = mass.unsqueeze(1)?;
        weights = (&mass / batch as f64)?;
        means = transposed.matmul(x)?.broadcast_div(&each)?;
        let second = transposed
            .matmul(&x.sqr()?.contiguous()?)?
            .broadcast_div(&each)?;
        variances = floor(&(second - means.sqr()?)?, settings.variance_floor)?;
        responsibilities = expect(x, &weights, &means, &variances)?;
    }
    Ok(UnrolledFit {
        weights,
        means,
        variances,
        responsibilities,
    })
}

/// `max(x, bound)` whose gradient passes where `x >= bound`.
fn floor(x: &Tensor, bound: f64) -> Result<Tensor> {
    let bound = Tensor::full(bound, x.shape(), x.device())?.to_dtype(x.dtype())?;
    Ok(x.ge(&bound)?.where_cond(x, &bound)?)
}

fn expect(x: &Tensor, weights: &Tensor, means: &Tensor, variances: &Tensor) -> Result<Tensor> {
    let width = x.dim(1)? as f64;
    let difference = x.unsqueeze(1)?.broadcast_sub(&means.unsqueeze(0)?)?;
    let distance = difference
        .sqr()?
        .broadcast_div(&variances.unsqueeze(0)?)?
        .sum(D::Minus1)?;
    let normaliser = (variances.log()?.sum(1)? + width * std::f64::consts::TAU.ln())?;
    let log = distance.broadcast_add(&normaliser.unsqueeze(0)?)?;
    let prior = floor(weights, WEIGHT_FLOOR)?.log()?.unsqueeze(0)?;
    softmax(&(log * -0.5)?.broadcast_add(&prior)?)
}

/// See [`Mixture::log_densities`](crate::Mixture::log_densities), of diagonal and spherical covariances.
///
/// # Errors
/// When the covariance is a matrix (Candle has no factorisation), or shapes do not fit.
pub fn log_densities(
    kind: Covariance,
    x: &Tensor,
    (weights, means, covariances): (&Tensor, &Tensor, &Tensor),
) -> Result<Tensor> {
    let variances = match kind {
        Covariance::Diagonal => covariances.clone(),
        Covariance::Spherical => covariances.unsqueeze(1)?.broadcast_as(means.shape())?,
        _ => {
            let remedy = "the reference has diagonal and spherical covariances";
            return Err(Error::value("covariance", format!("{kind:?}"), remedy));
        }
    };
    let difference = x.unsqueeze(1)?.broadcast_sub(&means.unsqueeze(0)?)?;
    let distance = difference
        .sqr()?
        .broadcast_div(&variances.unsqueeze(0)?)?
        .sum(D::Minus1)?;
    let width = x.dim(1)? as f64;
    let normaliser = (variances.log()?.sum(1)? + width * std::f64::consts::TAU.ln())?;
    let log = distance.broadcast_add(&normaliser.unsqueeze(0)?)?;
    Ok((log * -0.5)?.broadcast_add(&weights.log()?.unsqueeze(0)?)?)
}
