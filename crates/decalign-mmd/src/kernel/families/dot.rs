//! Kernels of the inner product: linear, polynomial, cosine.

use candle_core::Tensor;
use decalign_core::simd::Isa;
use decalign_core::{Error, Real, Result};

use crate::kernel::family::{
    Bandwidth, Family, Feature, Kernel, Parameters, Profile, ProfileFunction, ProfileKind,
    inner_products, positive,
};
use crate::sample;

impl Kernel {
    /// `a . b`: the MMD is the distance of means.
    pub fn linear() -> Self {
        Self::leaf(Linear, Bandwidth::from(1.0))
    }

    /// `(gamma a . b + offset)^degree`, of points that are not centred: it depends on the origin.
    ///
    /// # Errors
    /// When `degree` is not in 1..=16, `gamma` is not positive or `offset` is negative.
    pub fn polynomial(degree: u32, gamma: f64, offset: f64) -> Result<Self> {
        if !(1..=16).contains(&degree) {
            return Err(Error::value("degree", degree, "must be between 1 and 16"));
        }
        if !(offset >= 0.0 && offset.is_finite()) {
            let remedy = "must be at least 0 and finite, or the kernel is not positive definite";
            return Err(Error::value("offset", offset, remedy));
        }
        let polynomial = Polynomial {
            degree,
            gamma: positive("gamma", gamma)?,
            offset,
        };
        Ok(Self::leaf(polynomial, Bandwidth::from(1.0)))
    }

    /// `a . b / (|a| |b|)`, of points that are not centred: it depends on the origin.
    pub fn cosine() -> Self {
        Self::leaf(Cosine, Bandwidth::from(1.0))
    }
}

#[derive(Clone, Copy, Debug)]
struct Linear;

impl Family for Linear {
    fn feature(&self, alone: bool) -> Feature {
        match alone {
            true => Feature::CentredDot,
            false => Feature::Dot,
        }
    }

    fn profile(&self, _bandwidth: f64) -> Profile {
        Profile::IDENTITY
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, _bandwidth: &Bandwidth) -> Result<Tensor> {
        inner_products(x, y)
    }
}

#[derive(Clone, Copy, Debug)]
struct Cosine;

impl Family for Cosine {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::Cosine
    }

    fn profile(&self, _bandwidth: f64) -> Profile {
        Profile::IDENTITY
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, _bandwidth: &Bandwidth) -> Result<Tensor> {
        inner_products(&sample::directions(0, x)?, &sample::directions(1, y)?)
    }
}

/// `(gamma a . b + offset)^degree`.
#[derive(Clone, Copy, Debug)]
struct Polynomial {
    degree: u32,
    gamma: f64,
    offset: f64,
}

impl Family for Polynomial {
    fn feature(&self, _alone: bool) -> Feature {
        Feature::Dot
    }

    fn profile(&self, _bandwidth: f64) -> Profile {
        Profile::with_degree(ProfileKind::Power, self.gamma, self.offset, self.degree)
    }

    fn matrix(&self, x: &Tensor, y: &Tensor, _bandwidth: &Bandwidth) -> Result<Tensor> {
        let base = ((inner_products(x, y)? * self.gamma)? + self.offset)?;
        let mut power = base.clone();
        for _ in 1..self.degree {
            power = (power * &base)?;
        }
        Ok(power)
    }
}

/// `u`.
pub(crate) struct Identity;

impl ProfileFunction for Identity {
    #[inline(always)]
    fn at<T: Real, I: Isa>(_: I, _: Parameters<T>, u: T) -> (T, T) {
        (u, T::one())
    }

    fn max_slope(_: Parameters) -> Option<f64> {
        Some(0.0)
    }

    const VALUE: &'static str = "return u;";
    const SLOPE: &'static str = "return 1;";
}

/// `(a u + b)^degree`.
pub(crate) struct Power;

impl ProfileFunction for Power {
    #[inline(always)]
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T) {
        let base = isa.mul_add(p.a, u, p.b);
        let mut power = T::one();
        for _ in 1..p.degree {
            power *= base;
        }
        (power * base, T::of(f64::from(p.degree)) * p.a * power)
    }

    fn max_slope(_: Parameters) -> Option<f64> {
        Some(0.0)
    }

    const VALUE: &'static str = "const REAL base = fma(a, u, b);
    REAL power = base;
    UNROLL for (uint i = 1u; i < degree; i++) power *= base;
    return power;";
    const SLOPE: &'static str = "const REAL base = fma(a, u, b);
    REAL power = (REAL)degree * a;
    UNROLL for (uint i = 1u; i < degree; i++) power *= base;
    return power;";
}
