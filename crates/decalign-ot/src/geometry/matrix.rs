//! All costs at once, in plain tensor operations.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use super::cost::{Geometry, Kind};
use super::points::Metric;

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
            measured(&difference, *metric)
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

/// Distances of differences along the last dimension, with gradient 0 where they are 0.
pub(super) fn measured(difference: &Tensor, metric: Metric) -> Result<Tensor> {
    let p = match metric {
        Metric::SquaredEuclidean => return Ok(difference.sqr()?.sum(D::Minus1)?),
        Metric::CityBlock => return Ok(difference.abs()?.sum(D::Minus1)?),
        Metric::Euclidean => 2.0,
        Metric::Minkowski(p) => p,
    };
    let sizes = difference.abs()?;
    // The norm of a multiple is the multiple of the norm: powers neither overflow nor all underflow.
    let largest = sizes.detach().max_keepdim(D::Minus1)?;
    let none = largest.eq(0.0)?.to_dtype(largest.dtype())?;
    let powers = sizes
        .broadcast_div(&(&largest + none)?)?
        .powf(p)?
        .sum(D::Minus1)?;
    Ok((root(&powers, 1.0 / p)? * largest.squeeze(D::Minus1)?)?)
}

/// `x^power` of sums that are not negative, with gradient 0 at 0.
fn root(x: &Tensor, power: f64) -> Result<Tensor> {
    let some = x.gt(0.0)?;
    // The root is taken of 1 instead, and then replaced.
    let safe = some.where_cond(x, &x.ones_like()?)?.powf(power)?;
    Ok(some.where_cond(&safe, &x.zeros_like()?)?)
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
            Kind::Dense(_) | Kind::Points(_, _, Metric::SquaredEuclidean) => Ok(self.clone()),
            _ => Self::dense(&cost(self)?),
        }
    }
}
