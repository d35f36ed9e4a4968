//! The unrolled fit: checks, and dispatch to the host or a device.

use std::slice;

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::{Elements, Error, Result, with_real};

use super::settings::{UnrolledEm, UnrolledFit};
use super::{device, op};
use crate::reference;
use crate::samples::check_finite;

impl UnrolledEm {
    /// Fits the rows of `x`.
    ///
    /// The data is centred first, so that a common shift costs no digits. On a device the whole fit is one launch and its gradient
    /// another, and values are not checked.
    ///
    /// # Shapes
    /// `x` (B, d) with B, d >= 1.
    ///
    /// # Errors
    /// When `x` has another rank or type, no element, holds NaN or an infinity, or numbers whose squares its
    /// type cannot hold.
    pub fn fit(&self, x: &Tensor) -> Result<UnrolledFit> {
        let (batch, width) = checked(x)?;
        if let Some(backend) = Backend::of(x)? {
            return match device::supports(self, batch, width) {
                true => Ok(device::fit(&backend, self, slice::from_ref(x))?
                    .swap_remove(0)
                    .0),
                false => reference::fit(self, x),
            };
        }
        with_real!("data", x, T => {
            check_finite("data", &Elements::<T>::new(x)?, width)?;
            op::fit::<T>(self, x)
        })
    }

    /// Fits each of several data sets as [`UnrolledEm::fit`] does. On a device those of one shape share launches.
    ///
    /// # Errors
    /// As [`UnrolledEm::fit`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_gmm::UnrolledEm;
    /// let x = Tensor::new(&[[0f64], [0.2], [5.0], [5.2]], &Device::Cpu)?;
    /// let fits = UnrolledEm::new(2, 5, 1e-3)?.fit_all(&[x.clone(), (x + 1.0)?])?;
    /// assert_eq!(fits[1].means.dims(), [2, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fit_all(&self, all: &[Tensor]) -> Result<Vec<UnrolledFit>> {
        Ok(self
            .prototypes(all)?
            .into_iter()
            .map(|(fit, _)| fit)
            .collect())
    }

    /// Each fit of [`UnrolledEm::fit_all`] with its [`UnrolledFit::prototype_mass`], which on a device is computed in the same launch.
    ///
    /// # Errors
    /// As [`UnrolledEm::fit`].
    pub fn prototypes(&self, all: &[Tensor]) -> Result<Vec<(UnrolledFit, Tensor)>> {
        if let Some(first) = all.first()
            && let Some(backend) = Backend::of(first)?
        {
            let (batch, width) = checked(first)?;
            let alike = |x: &Tensor| {
                let shapes = x.dims() == first.dims() && x.dtype() == first.dtype();
                shapes && x.device().same_device(first.device())
            };
            if device::supports(self, batch, width) && all.iter().all(alike) {
                let parts = all.chunks(device::MIXTURES);
                let parts = parts.map(|part| device::fit(&backend, self, part));
                return Ok(parts.collect::<Result<Vec<_>>>()?.concat());
            }
        }
        let each = all.iter().map(|x| {
            let fit = self.fit(x)?;
            let mass = fit.prototype_mass()?;
            Ok((fit, mass))
        });
        each.collect()
    }
}

/// The shape of data.
fn checked(x: &Tensor) -> Result<(usize, usize)> {
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
    Ok((batch, width))
}
