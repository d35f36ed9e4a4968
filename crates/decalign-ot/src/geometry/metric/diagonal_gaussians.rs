//! Distances between Gaussians with diagonal covariances: squared Euclidean ones of means and standard deviations.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use crate::geometry::Geometry;
use crate::tensor_convert::{finite_range, matrices};

impl Geometry {
    /// Squared 2-Wasserstein distances between Gaussians with diagonal covariances,
    /// `|m_i - m'_j|^2 + sum_k (sqrt v_ik - sqrt v'_jk)^2`, computed in tiles.
    ///
    /// # Shapes
    /// Means and variances (n, d) and (m, d), or with a batch; variances positive.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit, an entry is not finite, or a variance is not positive.
    ///
    /// Source: Dowson and Landau (1982).
    pub fn diagonal_gaussians(
        (mean, variance): (&Tensor, &Tensor),
        (mean2, variance2): (&Tensor, &Tensor),
    ) -> Result<Self> {
        let embed = |name: &str, mean: &Tensor, variance: &Tensor| -> Result<Tensor> {
            if mean.dims() != variance.dims() || mean.dtype() != variance.dtype() {
                let expected = format!("shape {:?} of {:?}", mean.dims(), mean.dtype());
                return Err(Error::tensor(
                    name,
                    expected,
                    (variance.shape(), variance.dtype()),
                ));
            }
            matrices(name, variance)?;
            let least = finite_range(name, variance)?.0;
            if least <= 0.0 {
                return Err(Error::value(
                    format!("the least {name}"),
                    least,
                    "must be positive",
                ));
            }
            Ok(Tensor::cat(&[mean, &variance.sqrt()?], D::Minus1)?)
        };
        let x = embed("variance", mean, variance)?;
        Self::squared_euclidean(&x, &embed("variance2", mean2, variance2)?)
    }
}
