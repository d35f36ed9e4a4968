//! Redundancy reduction.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::cross_correlation::{correlated, correlations};
use super::traits::{Fused, Requirements};
use crate::table::Table;

/// Pulls column i of one part to column i of the other, and away from all others:
///
/// ```text
/// (sum_i (1 - C_ii)^2 + lambda sum_(i != j) C_ij^2) / d,   C as in CrossCorrelation
/// ```
///
/// For parts that shall agree, such as the common parts of two modalities. Deviations divide by n as C does,
/// so that equal parts have C_ii = 1 for every n; the division by d, which the paper does not have,
/// keeps weights valid when the width changes.
///
/// Parts (n, d) of one shape, n >= 2.
///
/// Source: Zbontar and others, Barlow twins (2021), equations 1 and 2.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{Barlow, Measure};
/// let a = Tensor::new(&[[1f64, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
/// let value = Barlow::new(0.005)?.between(&a, &(&a * 3.0)?)?;
/// assert_eq!(value.to_scalar::<f64>()?, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Barlow {
    lambda: f64,
}

impl Barlow {
    /// With the weight of the off-diagonal, 0.005 in the paper.
    ///
    /// # Errors
    /// When the weight is negative or not finite.
    pub fn new(lambda: f64) -> Result<Self> {
        if lambda >= 0.0 && lambda.is_finite() {
            return Ok(Self { lambda });
        }
        let remedy = "must be finite and not negative";
        Err(Error::value("Barlow's lambda", lambda, remedy))
    }
}

impl Fused for Barlow {
    const NAME: &'static str = "barlow";

    fn requirements(&self) -> Requirements {
        Requirements::rows(2).paired().same_width()
    }

    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        let width = a.width;
        correlated(a, b, |c| redundancy(c, width, self.lambda))
    }

    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let c = correlations(a, b)?;
        let d = c.dim(0)?;
        let eye = Tensor::eye(d, c.dtype(), c.device())?;
        let weights = ((&eye * (1.0 - self.lambda))? + self.lambda)?;
        Ok((((c - eye)?.sqr()? * weights)?.sum_all()? / d as f64)?)
    }
}

/// The value; its gradient takes the place of the correlations.
fn redundancy(c: &mut [f64], width: usize, lambda: f64) -> f64 {
    let mut value = 0.0;
    for (at, c) in c.iter_mut().enumerate() {
        let (target, weight) = match at / width == at % width {
            true => (1.0, 1.0),
            false => (0.0, lambda),
        };
        let (off, weight) = (*c - target, weight / width as f64);
        value += weight * off * off;
        *c = 2.0 * weight * off;
    }
    value
}
