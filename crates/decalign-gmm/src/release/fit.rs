//! The fit, once its data has been checked.

use candle_core::Tensor;
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::op;
use super::settings::{UnrolledEm, UnrolledFit};
use crate::reference;

impl UnrolledEm {
    /// Fits the rows of `x`.
    ///
    /// The data is centred first, so a common shift costs no digits.
    ///
    /// # Shapes
    /// `x` (B, d) with B, d >= 1.
    ///
    /// # Errors
    /// When `x` has another rank or type, no element, or holds NaN or an infinity.
    pub fn fit(&self, x: &Tensor) -> Result<UnrolledFit> {
        let (batch, width) = x
            .dims2()
            .map_err(|_| Error::tensor("data", "shape (B, d)", x.shape()))?;
        if batch == 0 || width == 0 {
            return Err(Error::tensor(
                "data",
                "at least one row and one column",
                x.shape(),
            ));
        }
        if !x.device().is_cpu() {
            return reference::fit(self, x);
        }
        with_real!("data", x, T => {
            check_finite(&Elements::<T>::new(x)?, width)?;
            op::fit::<T>(self, x)
        })
    }
}

fn check_finite<T: Real>(x: &[T], width: usize) -> Result<()> {
    let Some(first) = x.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let count = x.iter().filter(|v| !v.is_finite()).count();
    let name = format!("data at row {}, column {}", first / width, first % width);
    let remedy = format!("must be finite ({count} entries are not)");
    Err(Error::value(name, x[first], remedy))
}
