//! Cosine distances: squared Euclidean ones of directions.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use crate::geometry::Geometry;
use crate::tensor_convert::{finite_range, matrices};

impl Geometry {
    /// Cosine distances `1 - x_i . y_j / (|x_i| |y_j|)`, between 0 and 2.
    ///
    /// # Shapes
    /// As [`Geometry::squared_euclidean`], no row being zero.
    ///
    /// # Errors
    /// As [`Geometry::squared_euclidean`], and when a row is zero.
    pub fn cosine(x: &Tensor, y: &Tensor) -> Result<Self> {
        // Half the squared distance of points on the unit sphere.
        Self::squared_euclidean(&direction("x", x)?, &direction("y", y)?)
    }
}

/// Rows of length `sqrt(1/2)`: their squared distances are cosine distances.
fn direction(name: &str, x: &Tensor) -> Result<Tensor> {
    matrices(name, x)?;
    // Scaled by the largest entry, so that squares neither overflow nor underflow.
    let largest = x.detach().abs()?.max_keepdim(D::Minus1)?;
    if finite_range(name, &largest)?.0 <= 0.0 {
        return Err(Error::value(
            format!("the norm of a row of {name}"),
            0,
            "a zero row has no direction: leave it out",
        ));
    }
    let x = &x.broadcast_div(&largest)?;
    let squares = x.sqr()?.sum_keepdim(D::Minus1)?;
    Ok((x.broadcast_div(&squares.sqrt()?)? * std::f64::consts::FRAC_1_SQRT_2)?)
}
