//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use crate::estimator::Estimator;

/// The variance in a skewness's denominator is not taken below this.
pub const VARIANCE_FLOOR: f64 = 1e-6;

/// The mean over all pairs of a distance between two samples.
fn mean_over(samples: &[Tensor], f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let mut distances = Vec::new();
    for (j, y) in samples.iter().enumerate() {
        for x in &samples[..j] {
            distances.push(f(x, y)?);
        }
    }
    if distances.is_empty() {
        return Err(Error::value(
            "number of samples",
            samples.len(),
            "at least two are compared",
        ));
    }
    Ok(Tensor::stack(&distances, 0)?.mean(0)?)
}

/// Mean of `MMD^2` over all pairs with the kernel `exp(-|a - b|^2 / (2 variance))`, see
/// [`crate::GaussianMmd::mean_over_pairs`].
///
/// # Errors
/// When shapes differ.
pub fn mean_over_pairs(samples: &[Tensor], variance: f64, estimator: Estimator) -> Result<Tensor> {
    let kernel = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
        let difference = x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?;
        Ok((difference.sqr()?.sum(D::Minus1)? * (-0.5 / variance))?.exp()?)
    };
    let within = |x: &Tensor| -> Result<Tensor> {
        let (n, sum) = (x.dim(0)? as f64, kernel(x, x)?.sum_all()?);
        match estimator {
            Estimator::Biased => Ok((sum / (n * n))?),
            Estimator::Unbiased => Ok(((sum - n)? / (n * (n - 1.0)))?),
        }
    };
    mean_over(samples, |x, y| {
        let across = (kernel(x, y)?.mean_all()? * 2.0)?;
        Ok(((within(x)? + within(y)?)? - across)?)
    })
}

/// See [`crate::moment_matching`].
///
/// # Errors
/// When shapes differ.
pub fn moment_matching(samples: &[Tensor]) -> Result<Tensor> {
    let moments = |x: &Tensor| -> Result<[Tensor; 3]> {
        let n = x.dim(0)?;
        let mean = x.mean_keepdim(0)?;
        let centred = x.broadcast_sub(&mean)?;
        let degrees = n.saturating_sub(1).max(1) as f64;
        let covariance = (centred.t()?.contiguous()?.matmul(&centred.contiguous()?)? / degrees)?;
        let variance = centred.sqr()?.mean(0)?;
        let floor =
            Tensor::full(VARIANCE_FLOOR, variance.shape(), x.device())?.to_dtype(x.dtype())?;
        let floored = variance.ge(&floor)?.where_cond(&variance, &floor)?;
        let third = (centred.sqr()? * &centred)?.mean(0)?;
        let skewness = (third / (&floored * floored.sqrt()?)?)?;
        Ok([mean, covariance, skewness])
    };
    mean_over(samples, |x, y| {
        let (x, y) = (moments(x)?, moments(y)?);
        let mut total = None;
        for (a, b) in x.iter().zip(&y) {
            let mse = (a - b)?.sqr()?.mean_all()?;
            total = Some(match total {
                None => mse,
                Some(sum) => (sum + mse)?,
            });
        }
        total.ok_or_else(|| Error::value("moments", 0, "there are three"))
    })
}
