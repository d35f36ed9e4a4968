//! MMD and moments in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::Tensor;
use decalign_core::moments::CentralMomentDiscrepancy;
use decalign_core::{Error, Result};

use crate::estimator::Estimator;
use crate::kernel::{Kernel, root};
use crate::sample::{self, Sample};
use crate::statistic::{Functional, Statistic};

/// Lower bound of the variance in the denominator of a skewness.
pub const VARIANCE_FLOOR: f64 = 1e-6;

/// The mean over all pairs of a distance between two samples.
pub(crate) fn mean_over(
    samples: &[Tensor],
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut distances = Vec::new();
    for (j, y) in samples.iter().enumerate() {
        for x in &samples[..j] {
            distances.push(f(x, y)?);
        }
    }
    if distances.is_empty() {
        let remedy = "at least two are compared";
        return Err(Error::value("number of samples", samples.len(), remedy));
    }
    Ok(Tensor::stack(&distances, 0)?.mean(0)?)
}

/// The kernel matrix `k(x_i, y_j)`.
///
/// # Shapes
/// `x` (n, d), `y` (m, d); the result is (n, m).
///
/// # Errors
/// When shapes or dtypes differ.
pub fn kernel_matrix(kernel: &Kernel, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let terms = kernel.terms.iter().map(|term| {
        let leaves = term.leaves.iter();
        let leaves = leaves.map(|leaf| leaf.family.matrix(x, y, &leaf.bandwidth));
        Ok((reduce(leaves, |p, k| Ok((p * k)?))? * term.factor)?)
    });
    reduce(terms, |s, k| Ok((s + k)?))
}

/// Combines tensors from the first to the last.
fn reduce(
    mut tensors: impl Iterator<Item = Result<Tensor>>,
    f: impl Fn(Tensor, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let first = tensors.next();
    let first = first.unwrap_or_else(|| Err(Error::value("terms", 0, "must be at least one")))?;
    tensors.try_fold(first, |sum, x| f(sum, x?))
}

/// `MMD^2(x, y)`, see [`crate::Mmd::squared`].
///
/// # Errors
/// When shapes differ.
pub fn squared(
    kernel: &Kernel,
    estimator: Estimator,
    x: impl Into<Sample>,
    y: impl Into<Sample>,
) -> Result<Tensor> {
    let (x, y) = (x.into(), y.into());
    let within = |x: &Sample| -> Result<Tensor> { within(kernel, estimator, x) };
    let across = (across(kernel, &x, &y)? * 2.0)?;
    Ok(((within(&x)? + within(&y)?)? - across)?)
}

/// The mean of `MMD^2` over all pairs, see [`crate::Mmd::mean_over_pairs`].
///
/// # Errors
/// When shapes differ.
pub fn mean_over_pairs(
    kernel: &Kernel,
    estimator: Estimator,
    samples: &[Tensor],
) -> Result<Tensor> {
    mean_over(samples, |x, y| squared(kernel, estimator, x, y))
}

fn within(kernel: &Kernel, estimator: Estimator, x: &Sample) -> Result<Tensor> {
    let k = kernel_matrix(kernel, &x.points, &x.points)?;
    let w = x.normalised_weights()?;
    let outer = w.broadcast_mul(&w.t()?)?;
    match estimator {
        Estimator::Biased => Ok((k * outer)?.sum_all()?),
        Estimator::Unbiased => {
            let n = x.points.dim(0)?;
            let eye = Tensor::eye(n, k.dtype(), k.device())?;
            let outer = (&outer * (eye.ones_like()? - eye)?)?;
            Ok(((k * &outer)?.sum_all()? / outer.sum_all()?)?)
        }
    }
}

fn across(kernel: &Kernel, x: &Sample, y: &Sample) -> Result<Tensor> {
    let k = kernel_matrix(kernel, &x.points, &y.points)?;
    Ok((k * x
        .normalised_weights()?
        .broadcast_mul(&y.normalised_weights()?.t()?)?)?
    .sum_all()?)
}

pub(crate) fn evaluate(statistic: &Statistic, samples: &[Sample]) -> Result<Tensor> {
    sample::check(samples, 2, 1)?;
    let mut values = Vec::new();
    for kernel in &statistic.kernels {
        for f in &statistic.functionals {
            values.push(functional(f, kernel, statistic.estimator, samples)?);
        }
    }
    Ok(match statistic.scalar {
        true => values.swap_remove(0),
        false => Tensor::stack(&values, 0)?,
    })
}

fn functional(
    f: &Functional,
    kernel: &Kernel,
    estimator: Estimator,
    samples: &[Sample],
) -> Result<Tensor> {
    let mut terms = Vec::new();
    for (i, c) in &f.within {
        terms.push((within(kernel, estimator, &samples[*i])? * *c)?);
    }
    for (i, j, c) in &f.across {
        terms.push((across(kernel, &samples[*i], &samples[*j])? * *c)?);
    }
    Ok(Tensor::stack(&terms, 0)?.sum_all()?)
}

/// See [`crate::moment_matching`].
///
/// # Errors
/// When shapes differ.
pub fn moment_matching(samples: &[Tensor]) -> Result<Tensor> {
    let moments = |x: &Tensor| -> Result<[Tensor; 3]> {
        let (mean, centred, covariance) = two_moments(x)?;
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
        let each = x.iter().zip(&y);
        let each = each.map(|(a, b)| Ok((a - b)?.sqr()?.mean_all()?));
        reduce(each, |sum, mse| Ok((sum + mse)?))
    })
}

/// Mean, centred rows and covariance.
fn two_moments(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let n = x.dim(0)?;
    let mean = x.mean_keepdim(0)?;
    let centred = x.broadcast_sub(&mean)?;
    let degrees = n.saturating_sub(1).max(1) as f64;
    let covariance = (centred.t()?.contiguous()?.matmul(&centred.contiguous()?)? / degrees)?;
    Ok((mean, centred, covariance))
}

/// See [`crate::coral`].
///
/// # Errors
/// When shapes differ.
pub fn coral(samples: &[Tensor]) -> Result<Tensor> {
    mean_over(samples, |x, y| {
        let d = x.dim(1)? as f64;
        let difference = (two_moments(x)?.2 - two_moments(y)?.2)?;
        Ok((difference.sqr()?.sum_all()? / (4.0 * d * d))?)
    })
}

/// See [`crate::central_moment_discrepancy`]; the gradient where two moments are equal is 0.
///
/// # Errors
/// When shapes differ.
pub fn central_moment_discrepancy(
    samples: &[Tensor],
    settings: CentralMomentDiscrepancy,
) -> Result<Tensor> {
    let (order, span) = (settings.order(), settings.span());
    mean_over(samples, |x, y| {
        let distance = |a: &Tensor, b: &Tensor, k: i32| -> Result<Tensor> {
            Ok((root(&(a - b)?.sqr()?.sum_all()?)? / span.powi(k))?)
        };
        let (mean_x, mean_y) = (x.mean_keepdim(0)?, y.mean_keepdim(0)?);
        let mut total = distance(&mean_x, &mean_y, 1)?;
        let (x, y) = (x.broadcast_sub(&mean_x)?, y.broadcast_sub(&mean_y)?);
        let (mut power_x, mut power_y) = (x.clone(), y.clone());
        for k in 2..=order as i32 {
            (power_x, power_y) = ((power_x * &x)?, (power_y * &y)?);
            total = (total + distance(&power_x.mean_keepdim(0)?, &power_y.mean_keepdim(0)?, k)?)?;
        }
        Ok(total)
    })
}
