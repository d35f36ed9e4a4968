//! Matern kernels.

use candle_core::Tensor;
use decalign_core::random::Stream;
use decalign_core::simd::Isa;
use decalign_core::{Real, Result};

use crate::kernel::family::{
    Bandwidth, Family, Feature, Kernel, Parameters, Profile, ProfileFunction, ProfileKind,
    distances,
};
use crate::kernel::profile::{decay, scaled_root};

/// Smoothness of a [`Kernel::matern`], with r the distance over the length scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Smoothness {
    /// 1/2: `exp(-r)`.
    Half,
    /// 3/2: `(1 + sqrt(3) r) exp(-sqrt(3) r)`.
    ThreeHalves,
    /// 5/2: `(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)`.
    FiveHalves,
}

impl Kernel {
    /// The Matern kernel of `r = |a - b| / l`, see [`Smoothness`].
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    ///
    /// Source: Rasmussen and Williams, Gaussian processes for machine learning (2006), section 4.2.
    pub fn matern(smoothness: Smoothness, l: impl Into<Bandwidth>) -> Result<Self> {
        let l = l.into().checked("length scale")?;
        Ok(Self::leaf(Matern(smoothness), l))
    }
}

#[derive(Clone, Copy, Debug)]
struct Matern(Smoothness);

impl Family for Matern {
    fn feature(&self, _alone: bool) -> Feature {
        match self.0 {
            Smoothness::Half => Feature::SquaredExact,
            _ => Feature::Squared,
        }
    }

    fn profile(&self, l: f64) -> Profile {
        let (kind, a) = match self.0 {
            Smoothness::Half => (ProfileKind::Matern12, l.recip()),
            Smoothness::ThreeHalves => (ProfileKind::Matern32, 3f64.sqrt() / l),
            Smoothness::FiveHalves => (ProfileKind::Matern52, 5f64.sqrt() / l),
        };
        Profile::new(kind, a, 0.0)
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, l: &Bandwidth) -> Result<Tensor> {
        let r = distances(x, y)?;
        Ok(match self.0 {
            Smoothness::Half => l.divide(&r, -1.0)?.exp()?,
            Smoothness::ThreeHalves => {
                let t = l.divide(&r, 3f64.sqrt())?;
                ((&t + 1.0)? * t.neg()?.exp()?)?
            }
            Smoothness::FiveHalves => {
                let t = l.divide(&r, 5f64.sqrt())?;
                (((&t + 1.0)? + (t.sqr()? / 3.0)?)? * t.neg()?.exp()?)?
            }
        })
    }

    /// A multivariate t distribution with twice the smoothness as degrees of freedom.
    fn frequencies(
        &self,
        l: f64,
        (width, count): (usize, usize),
        stream: Stream,
    ) -> Option<Vec<f64>> {
        let degrees = match self.0 {
            Smoothness::Half => 1,
            Smoothness::ThreeHalves => 3,
            Smoothness::FiveHalves => 5,
        };
        let squares = stream.child(1).normal(degrees * count);
        let scales: Vec<f64> = squares
            .chunks_exact(degrees)
            .map(|z| (degrees as f64 / z.iter().map(|v| v * v).sum::<f64>()).sqrt() / l)
            .collect();
        let normal = stream.child(0).normal(width * count);
        let each = normal.into_iter().enumerate();
        Some(each.map(|(i, z)| z * scales[i % count]).collect())
    }
}

/// `exp(-t)`, `t = a sqrt u`.
pub(crate) struct Half;

impl ProfileFunction for Half {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let root = u.sqrt();
        let k = decay(isa, p.a * root);
        let slope = T::of(-0.5) * p.a * k / root;
        // At 0 the kernel has a cusp: its subgradient 0 is taken.
        (k, if u > T::zero() { slope } else { T::zero() })
    }

    fn max_slope(_: Parameters) -> Option<f64> {
        None
    }

    const VALUE: &'static str = "return decay(a * sqrt(u));";
    const SLOPE: &'static str = "const REAL root = sqrt(u);
    return u > 0 ? (REAL)-0.5 * a * decay(a * root) / root : (REAL)0;";
}

/// `(1 + t) exp(-t)`, `t = a sqrt u`.
pub(crate) struct ThreeHalves;

impl ProfileFunction for ThreeHalves {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let t = scaled_root(p.a, u);
        let e = decay(isa, t);
        (isa.mul_add(t, e, e), T::of(-0.5) * p.a * p.a * e)
    }

    fn max_slope(p: Parameters) -> Option<f64> {
        Some(p.a * p.a / 2.0)
    }

    const VALUE: &'static str = "const REAL t = scaled_root(a, u), e = decay(t);
    return fma(t, e, e);";
    const SLOPE: &'static str = "return (REAL)-0.5 * a * a * decay(scaled_root(a, u));";
}

/// `(1 + t + t^2 / 3) exp(-t)`, `t = a sqrt u`.
pub(crate) struct FiveHalves;

impl ProfileFunction for FiveHalves {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let t = scaled_root(p.a, u);
        let e = decay(isa, t);
        let linear = isa.mul_add(t, e, e);
        let value = isa.mul_add(T::of(1.0 / 3.0) * t * t, e, linear);
        (value, T::of(-1.0 / 6.0) * p.a * p.a * linear)
    }

    fn max_slope(p: Parameters) -> Option<f64> {
        Some(p.a * p.a / 6.0)
    }

    const VALUE: &'static str = "const REAL t = scaled_root(a, u), e = decay(t);
    return fma((REAL)(1.0 / 3.0) * t * t, e, fma(t, e, e));";
    const SLOPE: &'static str = "const REAL t = scaled_root(a, u), e = decay(t);
    return (REAL)(-1.0 / 6.0) * a * a * fma(t, e, e);";
}
