//! All costs at once, in plain tensor operations.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::cost::{Geometry, Kind};
use super::metric::{Metric, PointMetric, with_metric};

/// The costs of a geometry as a tensor, (n, m) or (B, n, m): all of them at once, differentiable.
///
/// # Errors
/// When memory runs out.
pub fn cost(geometry: &Geometry) -> Result<Tensor> {
    match geometry.kind() {
        Kind::Dense(cost) => Ok(cost.clone()),
        Kind::Points(x, y, metric) => {
            let rank = x.rank();
            let difference = x
                .unsqueeze(rank - 1)?
                .broadcast_sub(&y.unsqueeze(rank - 2)?)?;
            with_metric!(*metric, metric => metric.costs(&difference))
        }
        Kind::Grid(axes) => {
            // Axis by axis, as tensors have eight dimensions at most.
            let mut total = None::<Tensor>;
            for axis in axes {
                total = Some(match total {
                    None => axis.clone(),
                    Some(total) => {
                        let ((n, m), (k, l)) = (total.dims2()?, axis.dims2()?);
                        let sum = total
                            .reshape((n, 1, m, 1))?
                            .broadcast_add(&axis.reshape((1, k, 1, l))?)?;
                        sum.reshape((n * k, m * l))?
                    }
                });
            }
            let total = total.ok_or_else(|| Error::value("number of axes", 0, "a grid has one"))?;
            Ok(total)
        }
    }
}

impl Geometry {
    /// The costs as a tensor, (n, m) or (B, n, m): all of them at once, in plain tensor operations,
    /// with gradients. For solvers that take matrices, and for looking at.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn to_tensor(&self) -> Result<Tensor> {
        cost(self)
    }

    /// This geometry, or where it has no rows of costs (a grid) a matrix of them; without gradients.
    pub(crate) fn stored(&self) -> Result<Self> {
        match self.kind() {
            Kind::Grid(_) => Self::dense(&cost(self)?.detach()),
            _ => Ok(self.clone()),
        }
    }

    /// This geometry where its costs have factors of few columns, otherwise a matrix of them; with
    /// gradients.
    pub(crate) fn factored(&self) -> Result<Self> {
        match self.kind() {
            Kind::Dense(_) | Kind::Points(_, _, Metric::SquaredEuclidean(_)) => Ok(self.clone()),
            _ => Self::dense(&cost(self)?),
        }
    }
}
