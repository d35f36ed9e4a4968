//! The energy kernel.

use candle_core::Tensor;
use decalign_core::simd::Isa;
use decalign_core::{Real, Result};

use crate::kernel::family::{
    Bandwidth, Family, Feature, Kernel, Parameters, Profile, ProfileFunction, ProfileKind,
    distances,
};

impl Kernel {
    /// `-|a - b|`: MMD^2 is the energy distance `2 E|x - y| - E|x - x'| - E|y - y'|`. It is positive definite
    /// among weights that sum to 0, which is what MMD needs, so it can be added but not multiplied.
    ///
    /// Source: Szekely and Rizzo (2013); Sejdinovic and others (2013).
    pub fn energy() -> Self {
        Self::leaf(Energy, Bandwidth::from(1.0))
    }
}

#[derive(Clone, Copy, Debug)]
struct Energy;

impl Family for Energy {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::SquaredExact
    }

    fn profile(&self, _bandwidth: f64) -> Profile {
        Profile::new(ProfileKind::Distance, 0.0, 0.0)
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, _bandwidth: &Bandwidth) -> Result<Tensor> {
        Ok(distances(x, y)?.neg()?)
    }

    fn is_positive_definite(&self) -> bool {
        false
    }
}

/// `-sqrt u`.
pub(crate) struct Distance;

impl ProfileFunction for Distance {
    #[inline(always)]
    fn at<T: Real, I: Isa>(_: I, _: Parameters<T>, u: T) -> (T, T) {
        let root = u.sqrt();
        let slope = T::of(-0.5) / root;
        (-root, if u > T::zero() { slope } else { T::zero() })
    }

    fn max_slope(_: Parameters) -> Option<f64> {
        None
    }

    const VALUE: &'static str = "return -sqrt(u);";
    const SLOPE: &'static str = "return u > 0 ? (REAL)-0.5 / sqrt(u) : (REAL)0;";
}
