//! Two measures and the costs between their points, checked once.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use crate::geometry::{Geometry, read};

/// Totals of the two measures may differ by this, relatively.
const MASS_TOLERANCE: f64 = 1e-4;

/// Weights `a` on n points, `b` on m points, and the costs between them.
#[derive(Clone, Debug)]
pub struct LinearProblem {
    pub(super) geometry: Geometry,
    pub(super) a: Tensor,
    pub(super) b: Tensor,
}

impl LinearProblem {
    /// Transport of `a` to `b`.
    ///
    /// # Shapes
    /// `a` (n) and `b` (m) of the geometry's type, non-negative, of equal positive total. A point
    /// of weight 0 takes no part.
    ///
    /// # Errors
    /// When a shape or dtype does not fit, a weight is negative, NaN or infinite, or the totals
    /// differ; the message has the numbers.
    pub fn new(geometry: Geometry, a: &Tensor, b: &Tensor) -> Result<Self> {
        let (n, m) = geometry.size();
        let dtype = geometry.dtype();
        let totals = [total("a", a, n, dtype)?, total("b", b, m, dtype)?];
        if (totals[0] - totals[1]).abs() > MASS_TOLERANCE * totals[0].max(totals[1]) {
            let remedy = format!("must equal the total of b, {}", totals[1]);
            return Err(Error::value("the total of a", totals[0], remedy));
        }
        Ok(Self {
            geometry,
            a: a.clone(),
            b: b.clone(),
        })
    }

    /// Transport between points of equal weight, 1/n and 1/m.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn uniform(geometry: Geometry) -> Result<Self> {
        let (n, m) = geometry.size();
        let (dtype, device) = (geometry.dtype(), geometry.inputs()[0].device().clone());
        let weights = |n: usize| Tensor::full(1.0 / n as f64, n, &device)?.to_dtype(dtype);
        let (a, b) = (weights(n)?, weights(m)?);
        Self::new(geometry, &a, &b)
    }

    /// a and b.
    pub(crate) fn weights(&self) -> (&Tensor, &Tensor) {
        (&self.a, &self.b)
    }

    /// The costs.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}

fn total(name: &str, weights: &Tensor, n: usize, dtype: DType) -> Result<f64> {
    if weights.dims() != [n] || weights.dtype() != dtype {
        let expected = format!("shape ({n}) of {dtype:?}");
        return Err(Error::tensor(
            name,
            expected,
            (weights.shape(), weights.dtype()),
        ));
    }
    let numbers = read::<f64>(weights)?;
    if let Some(i) = numbers.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        let remedy = "weights are finite and not negative";
        return Err(Error::value(format!("{name}[{i}]"), numbers[i], remedy));
    }
    match numbers.iter().sum::<f64>() {
        total if total > 0.0 && total.is_finite() => Ok(total),
        total => Err(Error::value(
            format!("the total of {name}"),
            total,
            "must be positive",
        )),
    }
}
