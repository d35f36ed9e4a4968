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
            Ok(match metric {
                Metric::SquaredEuclidean => difference.sqr()?.sum(D::Minus1)?,
                Metric::Euclidean => difference.sqr()?.sum(D::Minus1)?.sqrt()?,
                Metric::CityBlock => difference.abs()?.sum(D::Minus1)?,
                Metric::Minkowski(p) => {
                    difference.abs()?.powf(*p)?.sum(D::Minus1)?.powf(1.0 / p)?
                }
            })
        }
        Kind::Grid(axes) => {
            let (rank, mut total) = (axes.len(), None::<Tensor>);
            for (k, axis) in axes.iter().enumerate() {
                let mut dims = vec![1; 2 * rank];
                (dims[k], dims[rank + k]) = axis.dims2()?;
                let part = axis.reshape(dims)?;
                total = Some(match total {
                    None => part,
                    Some(total) => total.broadcast_add(&part)?,
                });
            }
            let total = total.ok_or_else(|| Error::value("number of axes", 0, "a grid has one"))?;
            Ok(total.reshape(geometry.size())?)
        }
    }
}

impl Geometry {
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
