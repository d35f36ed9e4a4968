//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.
//!
//! Inputs are not checked here but by the functions that these stand beside.

use candle_core::{D, Tensor};
use decalign_core::Result;

use crate::measure::{Bandwidth, Gram, HsicForm, NORM_FLOOR, Side};
use crate::table::Table;

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

/// `x / sqrt(squared)`, and 0 with gradient 0 where the root is not above `floor`.
fn over_root(x: &Tensor, squared: &Tensor, floor: f64) -> Result<Tensor> {
    let positive = squared.gt(floor * floor)?;
    let root = positive
        .where_cond(squared, &squared.ones_like()?)?
        .sqrt()?;
    let mask = positive.to_dtype(x.dtype())?;
    Ok(x.broadcast_div(&root)?.broadcast_mul(&mask)?)
}

/// Rows without their mean; a constant column becomes exactly 0.
fn centred(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.narrow(0, 0, 1)?.detach())?;
    Ok(x.broadcast_sub(&x.mean_keepdim(0)?)?)
}

fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.t()?.contiguous()?.matmul(&b.contiguous()?)?)
}

/// See [`crate::CosineMargin`].
///
/// # Errors
/// When the shapes differ.
pub fn cosine_margin(a: &Tensor, b: &Tensor, margin: f64, side: Side) -> Result<Tensor> {
    let unit = |x: &Tensor| over_root(x, &x.sqr()?.sum_keepdim(1)?, NORM_FLOOR);
    let cosine = (unit(a)? * unit(b)?)?.sum(1)?;
    let size = match side {
        Side::Both => cosine.abs()?,
        Side::Positive => cosine,
    };
    Ok((size - margin)?.relu()?.mean(0)?)
}

/// See [`crate::Orthogonality`].
///
/// # Errors
/// When the numbers of rows differ.
pub fn orthogonality(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let unit = |x: &Tensor| -> Result<Tensor> {
        let x = centred(x)?;
        over_root(&x, &x.sqr()?.sum_keepdim(1)?, NORM_FLOOR)
    };
    let products = (product(&unit(a)?, &unit(b)?)? / a.dim(0)? as f64)?;
    Ok(products.sqr()?.sum_all()?)
}

/// Correlations of all columns of `a` with all of `b`.
fn correlations(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let standard = |x: &Tensor| -> Result<Tensor> {
        let x = centred(x)?;
        over_root(&x, &x.sqr()?.mean_keepdim(0)?, NORM_FLOOR)
    };
    Ok((product(&standard(a)?, &standard(b)?)? / a.dim(0)? as f64)?)
}

/// See [`crate::CrossCorrelation`].
///
/// # Errors
/// When the numbers of rows differ.
pub fn cross_correlation(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(correlations(a, b)?.sqr()?.mean_all()?)
}

/// See [`crate::Barlow`].
///
/// # Errors
/// When the shapes differ.
pub fn barlow(a: &Tensor, b: &Tensor, lambda: f64) -> Result<Tensor> {
    let c = correlations(a, b)?;
    let d = c.dim(0)?;
    let eye = Tensor::eye(d, c.dtype(), c.device())?;
    let weights = ((&eye * (1.0 - lambda))? + lambda)?;
    Ok((((c - eye)?.sqr()? * weights)?.sum_all()? / d as f64)?)
}

/// See [`crate::CentralMoments`].
///
/// # Errors
/// When the widths differ.
pub fn central_moments(a: &Tensor, b: &Tensor, order: u32, span: f64) -> Result<Tensor> {
    let distance = |a: &Tensor, b: &Tensor, k: i32| -> Result<Tensor> {
        let squared = (a - b)?.sqr()?.sum_all()?;
        // u / sqrt(u) is the root with gradient 0 at 0.
        Ok((over_root(&squared, &squared, 0.0)? / span.powi(k))?)
    };
    let mut total = distance(&a.mean_keepdim(0)?, &b.mean_keepdim(0)?, 1)?;
    let (a, b) = (centred(a)?, centred(b)?);
    let (mut power_a, mut power_b) = (a.clone(), b.clone());
    for k in 2..=order as i32 {
        (power_a, power_b) = ((power_a * &a)?, (power_b * &b)?);
        let (mean_a, mean_b) = (power_a.mean_keepdim(0)?, power_b.mean_keepdim(0)?);
        total = (total + distance(&mean_a, &mean_b, k)?)?;
    }
    Ok(total)
}

fn gaussian(x: &Tensor, bandwidth: Bandwidth) -> Result<Tensor> {
    let length = Gram::new(Table::read("points", x)?, bandwidth).length;
    let differences = x.unsqueeze(1)?.broadcast_sub(&x.unsqueeze(0)?)?;
    let squares = differences.sqr()?.sum(D::Minus1)?;
    Ok(((squares / length)? * (-0.5 / length))?.exp()?)
}

/// See [`crate::Hsic`].
///
/// # Errors
/// When the numbers of rows differ.
pub fn hsic(a: &Tensor, b: &Tensor, form: HsicForm, bandwidth: Bandwidth) -> Result<Tensor> {
    let (k, l) = (gaussian(a, bandwidth)?, gaussian(b, bandwidth)?);
    match form {
        HsicForm::Biased => hsic_biased(&k, &l),
        HsicForm::Unbiased => hsic_unbiased(&k, &l),
        HsicForm::Normalised => {
            let within = (hsic_biased(&k, &k)? * hsic_biased(&l, &l)?)?;
            over_root(&hsic_biased(&k, &l)?, &within, crate::measure::CONSTANT)
        }
    }
}

/// `trace(K H L H) / n^2`.
fn hsic_biased(k: &Tensor, l: &Tensor) -> Result<Tensor> {
    let n = k.dim(0)?;
    let h = (Tensor::eye(n, k.dtype(), k.device())? - 1.0 / n as f64)?;
    let centred = h.matmul(k)?.matmul(&h)?;
    Ok(((centred * l)?.sum_all()? / (n * n) as f64)?)
}

/// Song and others (2012), equation 5.
fn hsic_unbiased(k: &Tensor, l: &Tensor) -> Result<Tensor> {
    let n = k.dim(0)?;
    let off = (Tensor::eye(n, k.dtype(), k.device())?.neg()? + 1.0)?;
    let (k, l) = ((k * &off)?, (l * &off)?);
    let n = n as f64;
    let products = (&k * &l)?.sum_all()?;
    let sums = ((k.sum_all()? * l.sum_all()?)? / ((n - 1.0) * (n - 2.0)))?;
    let cross = ((k.sum(0)? * l.sum(0)?)?.sum_all()? * (2.0 / (n - 2.0)))?;
    Ok((((products + sums)? - cross)? / (n * (n - 3.0)))?)
}

/// See [`crate::TripletMargin`]; every triplet is written down.
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

/// See [`crate::club`]; every pair of samples is looked at, in O(n^2 d).
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
