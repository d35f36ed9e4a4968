//! The Laplace kernel.

use candle_core::{D, Tensor};
use decalign_core::Result;
use decalign_core::random::Stream;

use crate::kernel::family::{Bandwidth, Family, Feature, Kernel, Profile, differences};

impl Kernel {
    /// `exp(-sum_k |a_k - b_k| / l)`.
    ///
    /// The kernel `exp(-|a - b| / l)` of the Euclidean distance, which also goes by this name, is
    /// [`Kernel::matern`] of smoothness 1/2.
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    pub fn laplace(l: impl Into<Bandwidth>) -> Result<Self> {
        Ok(Self::leaf(Laplace, l.into().checked("length scale")?))
    }
}

#[derive(Clone, Copy, Debug)]
struct Laplace;

impl Family for Laplace {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::CityBlock
    }

    fn profile(&self, l: f64) -> Profile {
        Profile::exponential(l.recip())
    }

    fn power(&self) -> f64 {
        1.0
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, l: &Bandwidth) -> Result<Tensor> {
        let distances = differences(x, y)?.abs()?.sum(D::Minus1)?;
        Ok(l.divide(&distances, -1.0)?.exp()?)
    }

    /// A Cauchy distribution in every coordinate.
    fn frequencies(&self, l: f64, size: (usize, usize), stream: Stream) -> Option<Vec<f64>> {
        let uniform = stream.child(0).uniform(size.0 * size.1, -0.5, 0.5);
        let each = uniform.into_iter();
        Some(each.map(|u| (std::f64::consts::PI * u).tan() / l).collect())
    }
}
