//! The mathematics of this crate in plain tensor operations: slow, obvious, differentiable by Candle.

use candle_core::{D, Tensor};
use decalign_core::nn::reference::softmax;
use decalign_core::{Error, Result};

use crate::covariance::Covariance;
use crate::upstream::{MASS_FLOOR, UnrolledEm, UnrolledFit, WEIGHT_FLOOR};

/// [`UnrolledEm::fit`] by the formulas of the public DecAlign code, on data that is not centred.
///
/// # Errors
/// When `x` has another rank.
pub fn fit(settings: &UnrolledEm, x: &Tensor) -> Result<UnrolledFit> {
    let (batch, width) = x.dims2()?;
    // Candle selects rows of contiguous tensors only.
    let x = &x.contiguous()?;
    let k = settings.components;
    let rows = settings.initial_rows(batch);
    let rows: Vec<u32> = rows.into_iter().map(|i| i as u32).collect();
    let mut means = x.index_select(&Tensor::from_vec(rows, k, x.device())?, 0)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let variance = floor(&centred.sqr()?.mean_keepdim(0)?, settings.variance_floor)?;
    let mut variances = variance.broadcast_as((k, width))?.contiguous()?;
    let mut weights = Tensor::full(1.0 / k as f64, k, x.device())?.to_dtype(x.dtype())?;
    let mut responsibilities = e_step(x, &weights, &means, &variances)?;
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
        responsibilities = e_step(x, &weights, &means, &variances)?;
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

fn e_step(x: &Tensor, weights: &Tensor, means: &Tensor, variances: &Tensor) -> Result<Tensor> {
    let log = minus_two_log_normal(x, means, variances)?;
    let prior = floor(weights, WEIGHT_FLOOR)?.log()?.unsqueeze(0)?;
    softmax(&(log * -0.5)?.broadcast_add(&prior)?)
}

/// [`Mixture::log_densities`](crate::Mixture::log_densities) for diagonal and spherical covariances.
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
            let remedy = "the reference supports diagonal and spherical covariances";
            return Err(Error::value("covariance", format!("{kind:?}"), remedy));
        }
    };
    let log = minus_two_log_normal(x, means, &variances)?;
    Ok((log * -0.5)?.broadcast_add(&weights.log()?.unsqueeze(0)?)?)
}

/// `-2 log N(x | mu_k, diag(v_k))`, (n, K).
fn minus_two_log_normal(x: &Tensor, means: &Tensor, variances: &Tensor) -> Result<Tensor> {
    let width = x.dim(1)? as f64;
    let difference = x.unsqueeze(1)?.broadcast_sub(&means.unsqueeze(0)?)?;
    let distance = difference
        .sqr()?
        .broadcast_div(&variances.unsqueeze(0)?)?
        .sum(D::Minus1)?;
    let normaliser = (variances.log()?.sum(1)? + width * std::f64::consts::TAU.ln())?;
    Ok(distance.broadcast_add(&normaliser.unsqueeze(0)?)?)
}
