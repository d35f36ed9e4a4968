//! Gaussian kernels.

use candle_core::Tensor;
use decalign_core::random::Stream;
use decalign_core::simd::{self, Isa};
use decalign_core::{Real, Result};

use crate::kernel::family::{
    Bandwidth, Family, Feature, Kernel, Parameters, Profile, ProfileFunction, ProfileKind,
    squared_distances,
};

impl Kernel {
    /// `exp(-|a - b|^2 / (2 l^2))`: l is a length, the standard deviation.
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    pub fn gaussian_length_scale(l: impl Into<Bandwidth>) -> Result<Self> {
        let l = l.into().checked("length scale")?;
        Ok(Self::leaf(Gaussian::LengthScale, l))
    }

    /// `exp(-|a - b|^2 / (2 v))`: v is a squared length. DecAlign's convention.
    ///
    /// # Errors
    /// When `v` is not one positive and finite number.
    pub fn gaussian_variance(v: impl Into<Bandwidth>) -> Result<Self> {
        let v = v.into().checked("kernel variance")?;
        Ok(Self::leaf(Gaussian::Variance, v))
    }
}

/// The meaning of the bandwidth.
#[derive(Clone, Copy, Debug)]
enum Gaussian {
    LengthScale,
    Variance,
}

impl Family for Gaussian {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::Squared
    }

    fn profile(&self, l: f64) -> Profile {
        Profile::exponential(match self {
            Self::LengthScale => 0.5 * (l * l).recip(),
            Self::Variance => 0.5 / l,
        })
    }

    fn power(&self) -> f64 {
        match self {
            Self::LengthScale => 2.0,
            Self::Variance => 1.0,
        }
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, l: &Bandwidth) -> Result<Tensor> {
        let squares = squared_distances(x, y)?;
        let exponent = match self {
            Self::LengthScale => l.divide(&l.divide(&squares, 1.0)?, -0.5)?,
            Self::Variance => l.divide(&squares, -0.5)?,
        };
        Ok(exponent.exp()?)
    }

    fn frequencies(&self, l: f64, size: (usize, usize), stream: Stream) -> Option<Vec<f64>> {
        let l = match self {
            Self::LengthScale => l,
            Self::Variance => l.sqrt(),
        };
        let normal = stream.child(0).normal(size.0 * size.1).into_iter();
        Some(normal.map(|z| z / l).collect())
    }
}

impl Profile {
    /// `exp(-rate u)`.
    pub(super) fn exponential(rate: f64) -> Self {
        let exponent = -rate * std::f64::consts::LOG2_E;
        Self::new(ProfileKind::Exponential, exponent, -rate)
    }

    /// The profile to compute where u is at most `bound`: exponentials that are normal numbers need no check.
    pub(crate) fn below<T: Real>(self, bound: f64) -> Self {
        // Exponents of normal numbers, with room for rounding.
        let least = if size_of::<T>() == 4 { 120.0 } else { 1000.0 };
        let normal = bound * -self.parameters.b * std::f64::consts::LOG2_E < least;
        match self.kind {
            ProfileKind::Exponential if normal => Self {
                kind: ProfileKind::NormalExponential,
                ..self
            },
            _ => self,
        }
    }
}

/// `exp(-rate u)`: a is `-rate log2(e)`, for the power of two, and b is `-rate`.
pub(crate) struct Exponential;

impl ProfileFunction for Exponential {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let k = simd::exp2_number_value(isa, p.a * u);
        (k, p.b * k)
    }

    fn max_slope(p: Parameters) -> Option<f64> {
        Some(-p.b)
    }

    const VALUE: &'static str = "return exp2_normal(a * u);";
    const SLOPE: &'static str = "return LN2 * a * exp2_normal(a * u);";
}

/// [`Exponential`] where it is always a normal number.
pub(crate) struct NormalExponential;

impl ProfileFunction for NormalExponential {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let k = simd::exp2_normal_value(isa, p.a * u);
        (k, p.b * k)
    }

    fn max_slope(p: Parameters) -> Option<f64> {
        Exponential::max_slope(p)
    }

    const VALUE: &'static str = Exponential::VALUE;
    const SLOPE: &'static str = Exponential::SLOPE;
}
