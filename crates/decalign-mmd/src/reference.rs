//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use crate::estimator::Estimator;
use crate::kernel::{Form, Kernel, Leaf, Length, Smoothness};
use crate::sample::{self, Sample};
use crate::statistic::{Functional, Statistic};

/// The variance in a skewness's denominator is not taken below this.
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
    let mut sum: Option<Tensor> = None;
    for term in &kernel.terms {
        let mut product: Option<Tensor> = None;
        for leaf in &term.leaves {
            let k = leaf_matrix(leaf, x, y)?;
            product = Some(match product {
                None => k,
                Some(p) => (p * k)?,
            });
        }
        let product = product.ok_or_else(|| Error::value("factors", 0, "there is one at least"))?;
        let product = (product * term.factor)?;
        sum = Some(match sum {
            None => product,
            Some(s) => (s + product)?,
        });
    }
    sum.ok_or_else(|| Error::value("terms", 0, "there is one at least"))
}

fn leaf_matrix(leaf: &Leaf, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let differences = || -> Result<Tensor> { Ok(x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?) };
    let squares = || -> Result<Tensor> { Ok(differences()?.sqr()?.sum(D::Minus1)?) };
    let over = |u: Tensor, factor: f64| divided(&u, leaf.length.as_ref(), factor);
    let squared = |u: Tensor, factor: f64| over(over(u, 1.0)?, factor);
    Ok(match leaf.form {
        Form::GaussianLength => squared(squares()?, -0.5)?.exp()?,
        Form::GaussianVariance => over(squares()?, -0.5)?.exp()?,
        Form::Laplace => over(differences()?.abs()?.sum(D::Minus1)?, -1.0)?.exp()?,
        Form::Matern(Smoothness::Half) => over(root(&squares()?)?, -1.0)?.exp()?,
        Form::Matern(Smoothness::ThreeHalves) => {
            let t = over(root(&squares()?)?, 3f64.sqrt())?;
            ((&t + 1.0)? * t.neg()?.exp()?)?
        }
        Form::Matern(Smoothness::FiveHalves) => {
            let t = over(root(&squares()?)?, 5f64.sqrt())?;
            (((&t + 1.0)? + (t.sqr()? / 3.0)?)? * t.neg()?.exp()?)?
        }
        Form::InverseMultiquadric => (squared(squares()?, 1.0)? + 1.0)?.sqrt()?.recip()?,
        Form::RationalQuadratic(alpha) => {
            ((squared(squares()?, 0.5 / alpha)? + 1.0)?.log()? * -alpha)?.exp()?
        }
        Form::Energy => root(&squares()?)?.neg()?,
        Form::Linear => product(x, y)?,
        Form::Polynomial {
            degree,
            gamma,
            offset,
        } => {
            let base = ((product(x, y)? * gamma)? + offset)?;
            let mut power = base.clone();
            for _ in 1..degree {
                power = (power * &base)?;
            }
            power
        }
        Form::Cosine => product(&sample::directions(0, x)?, &sample::directions(1, y)?)?,
    })
}

fn product(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.matmul(&y.t()?.contiguous()?)?)
}

/// `factor u / length`.
fn divided(u: &Tensor, length: Option<&Length>, factor: f64) -> Result<Tensor> {
    let u = (u * factor)?;
    Ok(match length {
        None => u,
        Some(l) => match l.tensor() {
            None => (u / l.value())?,
            Some(l) => {
                let l = l.to_dtype(u.dtype())?.to_device(u.device())?;
                u.broadcast_div(&l.reshape((1, 1))?)?
            }
        },
    })
}

/// The root, its gradient 0 at 0.
fn root(u: &Tensor) -> Result<Tensor> {
    let positive = u.gt(&u.zeros_like()?)?;
    let inside = positive.where_cond(u, &u.ones_like()?)?.sqrt()?;
    Ok((inside * positive.to_dtype(u.dtype())?)?)
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
    let w = x.shares()?;
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
    Ok((k * x.shares()?.broadcast_mul(&y.shares()?.t()?)?)?.sum_all()?)
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

/// See [`crate::CentralMoments::discrepancy`]; the gradient where two moments are equal is 0.
///
/// # Errors
/// When shapes differ.
pub fn central_moment_discrepancy(samples: &[Tensor], order: u32, span: f64) -> Result<Tensor> {
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
