//! Rational quadratic kernels, the inverse multiquadric among them.

use candle_core::Tensor;
use decalign_core::simd::{self, Isa};
use decalign_core::{Real, Result};

use crate::kernel::family::{
    Bandwidth, Family, Feature, Kernel, Parameters, Profile, ProfileFunction, ProfileKind,
    positive, squared_distances,
};

impl Kernel {
    /// `(1 + |a - b|^2 / l^2)^(-1/2)`: 1 at equal points. Others write `(l^2 + |a - b|^2)^(-1/2)`, which
    /// is 1 / l times it.
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    pub fn inverse_multiquadric(l: impl Into<Bandwidth>) -> Result<Self> {
        let l = l.into().checked("length scale")?;
        Ok(Self::leaf(InverseMultiquadric, l))
    }

    /// `(1 + |a - b|^2 / (2 alpha l^2))^(-alpha)`: a mixture of Gaussian kernels of many bandwidths.
    ///
    /// # Errors
    /// When `alpha` or `l` is not positive and finite.
    pub fn rational_quadratic(alpha: f64, l: impl Into<Bandwidth>) -> Result<Self> {
        let family = RationalQuadratic {
            alpha: positive("alpha", alpha)?,
        };
        Ok(Self::leaf(family, l.into().checked("length scale")?))
    }
}

#[derive(Clone, Copy, Debug)]
struct RationalQuadratic {
    alpha: f64,
}

impl Family for RationalQuadratic {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::Squared
    }

    fn profile(&self, l: f64) -> Profile {
        let rate = 0.5 * (l * l).recip() / self.alpha;
        Profile::new(ProfileKind::InversePower, rate, self.alpha)
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, l: &Bandwidth) -> Result<Tensor> {
        let squares = squared_distances(x, y)?;
        let scaled = l.divide(&l.divide(&squares, 1.0)?, 0.5 / self.alpha)?;
        Ok(((scaled + 1.0)?.log()? * -self.alpha)?.exp()?)
    }
}

#[derive(Clone, Copy, Debug)]
struct InverseMultiquadric;

impl Family for InverseMultiquadric {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::Squared
    }

    fn profile(&self, l: f64) -> Profile {
        Profile::new(ProfileKind::InverseRoot, (l * l).recip(), 0.0)
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, l: &Bandwidth) -> Result<Tensor> {
        let scaled = l.divide(&l.divide(&squared_distances(x, y)?, 1.0)?, 1.0)?;
        Ok((scaled + 1.0)?.sqrt()?.recip()?)
    }
}

/// `(1 + a u)^(-1/2)`.
pub(crate) struct InverseRoot;

impl ProfileFunction for InverseRoot {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let k = isa.mul_add(p.a, u, T::one()).sqrt().recip();
        (k, T::of(-0.5) * p.a * k * k * k)
    }

    fn max_slope(p: Parameters) -> Option<f64> {
        Some(p.a / 2.0)
    }

    const VALUE: &'static str = "return 1 / sqrt(fma(a, u, (REAL)1));";
    const SLOPE: &'static str = "const REAL k = 1 / sqrt(fma(a, u, (REAL)1));
    return (REAL)-0.5 * a * k * k * k;";
}

/// `(1 + a u)^-b`.
pub(crate) struct InversePower;

impl ProfileFunction for InversePower {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let base = isa.mul_add(p.a, u, T::one());
        let k = simd::exp_value(isa, -p.b * simd::ln_value(isa, base));
        (k, -p.b * p.a * k / base)
    }

    fn max_slope(p: Parameters) -> Option<f64> {
        Some(p.b * p.a)
    }

    const VALUE: &'static str = "return exp2(-b * log2(fma(a, u, (REAL)1)));";
    const SLOPE: &'static str = "const REAL base = fma(a, u, (REAL)1);
    return -b * a * exp2(-b * log2(base)) / base;";
}
