//! Validation of settings and weights.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use crate::tensor_convert::read;

/// Totals of measures may differ by this, relatively.
pub(crate) const MASS_TOLERANCE: f64 = 1e-4;

/// Weights of measures in an average may miss a sum of 1 by this.
const SHARE_TOLERANCE: f64 = 1e-6;

pub(crate) fn positive(name: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::value(name, value, "must be positive and finite")),
    }
}

pub(crate) fn at_least_one(name: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::value(name, 0, "must be at least 1")),
        _ => Ok(()),
    }
}

/// The dtype of a tensor that is f32 or f64.
pub(crate) fn real(name: &str, x: &Tensor) -> Result<DType> {
    match x.dtype() {
        dtype @ (DType::F32 | DType::F64) => Ok(dtype),
        other => Err(Error::tensor(name, "dtype f32 or f64", other)),
    }
}

/// Kernels take all numbers in one type.
pub(crate) fn same_dtype(name: &str, x: &Tensor, like: &Tensor) -> Result<()> {
    match x.dtype() == like.dtype() {
        true => Ok(()),
        false => {
            let wanted = format!("dtype {}", like.dtype().as_str());
            Err(Error::tensor(name, wanted, x.dtype()))
        }
    }
}

/// A vector of weights: finite, not negative, of positive total, which is returned.
pub(crate) fn mass(name: &str, x: &Tensor, n: usize, dtype: DType) -> Result<f64> {
    if x.dims() != [n] || x.dtype() != dtype || n == 0 {
        let expected = format!("shape ({n}), not empty, of {dtype:?}");
        return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
    }
    let numbers = read::<f64>(x)?;
    if let Some(i) = numbers.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        let remedy = "weights are finite and not negative";
        return Err(Error::value(format!("{name}[{i}]"), numbers[i], remedy));
    }
    match numbers.iter().sum::<f64>() {
        total if total > 0.0 && total.is_finite() => Ok(total),
        total => Err(Error::value(
            format!("the total of {name}"),
            total,
            "must be positive and finite",
        )),
    }
}

/// Two totals must be equal, up to rounding in single precision.
pub(crate) fn equal_totals(name: &str, total: f64, other: &str, want: f64) -> Result<()> {
    match (total - want).abs() <= MASS_TOLERANCE * want.max(total) {
        true => Ok(()),
        false => {
            let remedy = format!("must equal the total of {other}, {want}");
            Err(Error::value(format!("the total of {name}"), total, remedy))
        }
    }
}

/// A matrix of finite numbers and `columns` columns, where they are given; returns its size.
pub(crate) fn matrix(
    name: &str,
    x: &Tensor,
    (rows, columns): (Option<usize>, Option<usize>),
    dtype: DType,
) -> Result<(usize, usize)> {
    let fits = match x.dims() {
        [n, m] => *n * *m > 0 && rows.is_none_or(|r| r == *n) && columns.is_none_or(|c| c == *m),
        _ => false,
    };
    if !fits || x.dtype() != dtype {
        let side = |s: Option<usize>, free: &str| s.map_or(free.to_owned(), |s| s.to_string());
        let (n, m) = (side(rows, "n"), side(columns, "m"));
        let expected = format!("shape ({n}, {m}), not empty, of {dtype:?}");
        return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
    }
    let size = x.dims2()?;
    let numbers = read::<f64>(x)?;
    match numbers.iter().position(|v| !v.is_finite()) {
        None => Ok(size),
        Some(at) => {
            let name = format!("{name} at ({}, {})", at / size.1, at % size.1);
            Err(Error::value(name, numbers[at], "must be finite"))
        }
    }
}

/// The weights of `n` measures in an average, checked and of sum exactly 1.
pub(crate) fn shares(weights: &[f64], n: usize) -> Result<Vec<f64>> {
    if weights.len() != n {
        let remedy = format!("there are {n} measures, each has one");
        return Err(Error::value("number of weights", weights.len(), remedy));
    }
    if let Some(k) = weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        let remedy = "weights of measures are finite and not negative";
        return Err(Error::value(
            format!("weight of measure {k}"),
            weights[k],
            remedy,
        ));
    }
    let total: f64 = weights.iter().sum();
    match (total - 1.0).abs() <= SHARE_TOLERANCE {
        true => Ok(weights.iter().map(|w| w / total).collect()),
        false => Err(Error::value(
            "the sum of the measures' weights",
            total,
            "must be 1: divide each by the sum",
        )),
    }
}

/// About their mean.
pub(crate) fn centred(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|v| v - mean).collect()
}

pub(crate) fn inner(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// The larger of two, NaN if either is.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    match a.is_nan() || b.is_nan() {
        true => f64::NAN,
        false => a.max(b),
    }
}
