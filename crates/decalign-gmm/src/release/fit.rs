//! The fit, once its data has been checked.

use candle_core::Tensor;
use decalign_core::{Elements, Error, Result, with_real};

use super::op;
use super::settings::{UnrolledEm, UnrolledFit};
use crate::data::check_finite;
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
    /// When `x` has another rank or type, no element, holds NaN or an infinity, or numbers whose squares its
    /// type cannot hold.
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
            check_finite("data", &Elements::<T>::new(x)?, width)?;
            op::fit::<T>(self, x)
        })
    }
}
