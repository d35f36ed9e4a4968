//! Settings and result of the unrolled fit.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use crate::fit::even_rows;

/// The floor of the mass `n_k` of a component.
pub const MASS_FLOOR: f64 = 1e-6;

/// The floor of the weight of a component in its logarithm.
pub const WEIGHT_FLOOR: f64 = 1e-8;

/// A fixed number of EM steps on a mixture with diagonal covariances, with gradients through all of them.
///
/// The initialisation is that of the public DecAlign code: means are the rows `round(linspace(0, B - 1, K))` (halves
/// to even; with B < K the rows repeat cyclically), every variance is that of the batch, weights are
/// equal. The fit therefore depends on the order of the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnrolledEm {
    pub(crate) components: usize,
    pub(crate) iterations: usize,
    pub(crate) variance_floor: f64,
}

/// A fitted mixture; every tensor carries gradients with respect to the data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnrolledFit {
    /// `pi`, (K).
    pub weights: Tensor,
    /// `mu`, (K, d).
    pub means: Tensor,
    /// Diagonals of the covariances, (K, d).
    pub variances: Tensor,
    /// Posterior probabilities of the components under the final parameters, (B, K).
    pub responsibilities: Tensor,
}

impl UnrolledFit {
    /// The share of the samples that each component explains: responsibilities averaged over
    /// samples, summing to 1.
    ///
    /// # Shapes
    /// The result is (K).
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn prototype_mass(&self) -> Result<Tensor> {
        let mass = self.responsibilities.mean(0)?;
        Ok(mass.broadcast_div(&mass.sum_keepdim(D::Minus1)?)?)
    }
}

impl UnrolledEm {
    /// `iterations` steps for `components` Gaussians whose variances stay above `variance_floor`.
    ///
    /// # Errors
    /// When there is no component or the floor is not positive.
    pub fn new(components: usize, iterations: usize, variance_floor: f64) -> Result<Self> {
        if components == 0 {
            return Err(Error::value("components", 0, "at least one is needed"));
        }
        if !(variance_floor > 0.0 && variance_floor.is_finite()) {
            return Err(Error::value(
                "variance floor",
                variance_floor,
                "must be positive and finite",
            ));
        }
        Ok(Self {
            components,
            iterations,
            variance_floor,
        })
    }

    /// The rows at which the means are initialised.
    pub(crate) fn initial_rows(&self, batch: usize) -> Vec<usize> {
        even_rows(batch, self.components)
    }
}
