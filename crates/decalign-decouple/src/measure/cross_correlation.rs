//! Cross-correlation of all columns.

use candle_core::Tensor;
use decalign_core::Result;

use super::normalise::{StandardColumns, product, product_backward};
use super::traits::{Fused, Requirements};
use crate::table::Table;
use crate::tensor::{self, NORM_FLOOR};

/// The mean squared correlation between the columns of two parts:
///
/// ```text
/// mean over i, j of C_ij^2,   C = A^T B / n,   columns of A and B with mean 0 and variance 1
/// ```
///
/// It lies in [0, 1]. Means and deviations carry gradients, and features cannot make it small by
/// becoming small, as they can a covariance. Of independent features it is 1 / (n - 1) on average:
/// values near that are 0. A constant column counts as 0, with gradient 0.
///
/// Parts (n, d) and (n, e), n >= 2.
///
/// Source: the off-diagonal of Zbontar and others, Barlow twins (2021), over all pairs of columns.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{CrossCorrelation, Measure};
/// let a = Tensor::new(&[[1f64], [2.0], [3.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[-1f64, 5.0], [-2.0, 5.0], [-3.0, 5.0]], &Device::Cpu)?;
/// // Fully correlated with the first column, and a constant one.
/// let value = CrossCorrelation.between(&a, &b)?.to_scalar::<f64>()?;
/// assert!((value - 0.5).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossCorrelation;

impl Fused for CrossCorrelation {
    const NAME: &'static str = "cross_correlation";

    fn requirements(&self) -> Requirements {
        Requirements::rows(2).paired()
    }

    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        correlated(a, b, |c| {
            let cells = c.len() as f64;
            let value = c.iter().map(|v| v * v).sum::<f64>() / cells;
            c.iter_mut().for_each(|v| *v *= 2.0 / cells);
            value
        })
    }

    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(correlations(a, b)?.sqr()?.mean_all()?)
    }
}

/// Correlations of all columns of `a` with all of `b`, in tensor operations.
pub(super) fn correlations(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let standard = |x: &Tensor| -> Result<Tensor> {
        let x = tensor::centred(x)?;
        tensor::over_root(&x, &x.sqr()?.mean_keepdim(0)?, NORM_FLOOR)
    };
    Ok((tensor::product(&standard(a)?, &standard(b)?)? / a.dim(0)? as f64)?)
}

/// A function of the correlations and its gradients; `f` returns the value and overwrites the correlations
/// with their gradient.
pub(super) fn correlated(
    a: Table,
    b: Table,
    f: impl FnOnce(&mut [f64]) -> f64,
) -> (f64, [Vec<f64>; 2]) {
    let (a, b) = (StandardColumns::new(a), StandardColumns::new(b));
    let mut c = product(&a.table, &b.table);
    let value = f(&mut c);
    let [da, db] = product_backward(&a.table, &b.table, &c);
    (value, [a.backward(da), b.backward(db)])
}
