//! The norm that a step returns.

use candle_core::Tensor;
use decalign_core::tensor_convert::scalar;

use crate::Result;

/// The norm of all gradients before clipping. On a device it is computed after the call that returned it, and reading
/// it waits.
#[derive(Clone, Debug)]
pub struct Norm(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Known(f64),
    Computed(Tensor),
}

impl Norm {
    pub(super) fn known(norm: f64) -> Self {
        Self(Kind::Known(norm))
    }

    pub(super) fn computed(norm: Tensor) -> Self {
        Self(Kind::Computed(norm))
    }

    /// The scalar on its device, to be read together with others; `None` where the norm is known.
    pub fn tensor(&self) -> Option<&Tensor> {
        match &self.0 {
            Kind::Known(_) => None,
            Kind::Computed(norm) => Some(norm),
        }
    }

    /// The norm; of a device, by a copy to the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn value(&self) -> Result<f64> {
        match &self.0 {
            Kind::Known(norm) => Ok(*norm),
            Kind::Computed(norm) => Ok(scalar(norm)?),
        }
    }
}
