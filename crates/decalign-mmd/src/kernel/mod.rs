//! Kernels: what two points have in common.

mod length;
mod shape;

use std::ops::{Add, Mul};

use decalign_core::{Error, Result};

pub use length::Length;
pub(crate) use shape::{Buffer, Shape, buffer};

/// A kernel `k(a, b)`: one of those below, or sums, products and positive multiples of them.
///
/// | constructor | `k(a, b)` |
/// |---|---|
/// | [`Kernel::gaussian_length_scale`] | `exp(-norm(a - b)^2 / (2 l^2))` |
/// | [`Kernel::gaussian_variance`] | `exp(-norm(a - b)^2 / (2 v))` |
/// | [`Kernel::laplace`] | `exp(-norm1(a - b) / l)`, the sum of absolute differences |
/// | [`Kernel::matern`] | of the distance over l, of smoothness 1/2 (`exp(-r)`), 3/2 or 5/2 |
/// | [`Kernel::inverse_multiquadric`] | `(1 + norm(a - b)^2 / l^2)^(-1/2)` |
/// | [`Kernel::rational_quadratic`] | `(1 + norm(a - b)^2 / (2 alpha l^2))^(-alpha)` |
/// | [`Kernel::energy`] | `-norm(a - b)`: MMD^2 is the energy distance |
/// | [`Kernel::linear`] | `a . b`: MMD is the distance of means |
/// | [`Kernel::polynomial`] | `(gamma a . b + c)^p` |
/// | [`Kernel::cosine`] | `a . b / (norm(a) norm(b))` |
///
/// A kernel on learned features is one of these, given the features: samples carry gradients.
///
/// ```
/// use decalign_mmd::Kernel;
/// let wide = Kernel::gaussian_length_scale(2.0)?;
/// let kernel = ((wide + Kernel::gaussian_length_scale(0.5)?) * Kernel::cosine())?;
/// assert!((kernel * Kernel::energy()).is_err());
/// # Ok::<(), decalign_mmd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(crate) terms: Vec<Term>,
}

/// `factor` times the product of the leaves.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) factor: f64,
    pub(crate) leaves: Vec<Leaf>,
}

/// One kernel of the table.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) form: Form,
    pub(crate) length: Option<Length>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    GaussianLength,
    GaussianVariance,
    Laplace,
    Matern(Smoothness),
    InverseMultiquadric,
    RationalQuadratic(f64),
    Energy,
    Linear,
    Polynomial {
        degree: u32,
        gamma: f64,
        offset: f64,
    },
    Cosine,
}

/// How often functions of a Matern kernel's space can be differentiated, and a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smoothness {
    /// `exp(-r)`.
    Half,
    /// `(1 + sqrt(3) r) exp(-sqrt(3) r)`.
    ThreeHalves,
    /// `(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)`.
    FiveHalves,
}

/// The number of two points that a kernel is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Squared,
    /// As `Squared`, where its root is taken: small distances are exact.
    SquaredExact,
    CityBlock,
    /// Of points about their common mean. MMD with a linear kernel does not depend on the origin.
    CentredDot,
    Dot,
    /// Of directions.
    Cosine,
}

impl Kernel {
    fn leaf(form: Form, length: Option<Length>) -> Self {
        let leaves = vec![Leaf { form, length }];
        Self {
            terms: vec![Term {
                factor: 1.0,
                leaves,
            }],
        }
    }

    /// `exp(-|a - b|^2 / (2 l^2))`: l is a length, the standard deviation.
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    pub fn gaussian_length_scale(l: impl Into<Length>) -> Result<Self> {
        Ok(Self::leaf(
            Form::GaussianLength,
            Some(l.into().checked("length scale")?),
        ))
    }

    /// `exp(-|a - b|^2 / (2 v))`: v is a squared length. DecAlign's convention.
    ///
    /// # Errors
    /// When `v` is not one positive and finite number.
    pub fn gaussian_variance(v: impl Into<Length>) -> Result<Self> {
        Ok(Self::leaf(
            Form::GaussianVariance,
            Some(v.into().checked("kernel variance")?),
        ))
    }

    /// `exp(-sum_k |a_k - b_k| / l)`.
    ///
    /// The kernel `exp(-|a - b| / l)` of the Euclidean distance, which also goes by this name, is
    /// [`Kernel::matern`] of smoothness 1/2.
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    pub fn laplace(l: impl Into<Length>) -> Result<Self> {
        Ok(Self::leaf(
            Form::Laplace,
            Some(l.into().checked("length scale")?),
        ))
    }

    /// The Matern kernel of `r = |a - b| / l`, see [`Smoothness`].
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    ///
    /// Source: Rasmussen and Williams, Gaussian processes for machine learning (2006), section 4.2.
    pub fn matern(smoothness: Smoothness, l: impl Into<Length>) -> Result<Self> {
        Ok(Self::leaf(
            Form::Matern(smoothness),
            Some(l.into().checked("length scale")?),
        ))
    }

    /// `(1 + |a - b|^2 / l^2)^(-1/2)`: 1 at equal points. Others write `(l^2 + |a - b|^2)^(-1/2)`, which
    /// is 1 / l of it.
    ///
    /// # Errors
    /// When `l` is not one positive and finite number.
    pub fn inverse_multiquadric(l: impl Into<Length>) -> Result<Self> {
        Ok(Self::leaf(
            Form::InverseMultiquadric,
            Some(l.into().checked("length scale")?),
        ))
    }

    /// `(1 + |a - b|^2 / (2 alpha l^2))^(-alpha)`: a mixture of Gaussian kernels of many widths.
    ///
    /// # Errors
    /// When `alpha` or `l` is not positive and finite.
    pub fn rational_quadratic(alpha: f64, l: impl Into<Length>) -> Result<Self> {
        positive("alpha", alpha)?;
        Ok(Self::leaf(
            Form::RationalQuadratic(alpha),
            Some(l.into().checked("length scale")?),
        ))
    }

    /// `-|a - b|`: MMD^2 is the energy distance `2 E|x - y| - E|x - x'| - E|y - y'|`. It is positive definite
    /// among weights that sum to 0, which is what MMD needs, so it can be added but not multiplied.
    ///
    /// Source: Szekely and Rizzo (2013); Sejdinovic and others (2013).
    pub fn energy() -> Self {
        Self::leaf(Form::Energy, None)
    }

    /// `a . b`: the MMD is the distance of means.
    pub fn linear() -> Self {
        Self::leaf(Form::Linear, None)
    }

    /// `(gamma a . b + offset)^degree`, of points as they are: it depends on the origin.
    ///
    /// # Errors
    /// When `degree` is not in 1..=16, `gamma` is not positive or `offset` is negative.
    pub fn polynomial(degree: u32, gamma: f64, offset: f64) -> Result<Self> {
        if !(1..=16).contains(&degree) {
            return Err(Error::value("degree", degree, "must be between 1 and 16"));
        }
        positive("gamma", gamma)?;
        if !(offset >= 0.0 && offset.is_finite()) {
            let remedy = "must be at least 0 and finite, or the kernel is not positive definite";
            return Err(Error::value("offset", offset, remedy));
        }
        let form = Form::Polynomial {
            degree,
            gamma,
            offset,
        };
        Ok(Self::leaf(form, None))
    }

    /// `a . b / (|a| |b|)`, of points as they are: it depends on the origin.
    pub fn cosine() -> Self {
        Self::leaf(Form::Cosine, None)
    }

    /// The kernel times a positive number.
    ///
    /// # Errors
    /// When `factor` is not positive and finite.
    pub fn scaled(mut self, factor: f64) -> Result<Self> {
        positive("factor", factor)?;
        self.terms.iter_mut().for_each(|t| t.factor *= factor);
        Ok(self)
    }

    /// Whether it is positive definite among all weights, not only those that sum to 0.
    pub(crate) fn is_positive_definite(&self) -> bool {
        self.leaves().all(|l| l.form != Form::Energy)
    }

    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.terms.iter().flat_map(|t| &t.leaves)
    }
}

impl Add for Kernel {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self
    }
}

impl Mul for Kernel {
    type Output = Result<Self>;
    /// The product; with [`Kernel::energy`] an error, as it would not be positive definite.
    fn mul(self, other: Self) -> Result<Self> {
        if self
            .leaves()
            .chain(other.leaves())
            .any(|l| l.form == Form::Energy)
        {
            let remedy = "it is not positive definite there: add kernels to it instead";
            return Err(Error::value(
                "a factor of the product",
                "the energy kernel",
                remedy,
            ));
        }
        let terms = self.terms.iter().flat_map(|a| {
            other.terms.iter().map(move |b| Term {
                factor: a.factor * b.factor,
                leaves: a.leaves.iter().chain(&b.leaves).cloned().collect(),
            })
        });
        Ok(Self {
            terms: terms.collect(),
        })
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::value(name, value, "must be positive and finite")),
    }
}

impl Leaf {
    /// What the kernel is a function of. `alone`: as a term of its own, within an MMD.
    pub(crate) fn feature(&self, alone: bool) -> Feature {
        match self.form {
            Form::Laplace => Feature::CityBlock,
            Form::Matern(Smoothness::Half) | Form::Energy => Feature::SquaredExact,
            Form::Linear if alone => Feature::CentredDot,
            Form::Linear | Form::Polynomial { .. } => Feature::Dot,
            Form::Cosine => Feature::Cosine,
            _ => Feature::Squared,
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        let l = self.length.as_ref().map_or(1.0, Length::value);
        let squared = (l * l).recip();
        match self.form {
            Form::GaussianLength => Shape::Exponential {
                rate: 0.5 * squared,
            },
            Form::GaussianVariance => Shape::Exponential { rate: 0.5 / l },
            Form::Laplace => Shape::Exponential { rate: l.recip() },
            Form::Matern(Smoothness::Half) => Shape::Root { rate: l.recip() },
            Form::Matern(Smoothness::ThreeHalves) => Shape::ThreeHalves {
                rate: 3f64.sqrt() / l,
            },
            Form::Matern(Smoothness::FiveHalves) => Shape::FiveHalves {
                rate: 5f64.sqrt() / l,
            },
            Form::InverseMultiquadric => Shape::InverseRoot { rate: squared },
            Form::RationalQuadratic(alpha) => Shape::InversePower {
                alpha,
                rate: 0.5 * squared / alpha,
            },
            Form::Energy => Shape::Distance,
            Form::Linear | Form::Cosine => Shape::Identity,
            Form::Polynomial {
                degree,
                gamma,
                offset,
            } => Shape::Polynomial {
                degree,
                slope: gamma,
                offset,
            },
        }
    }

    /// The kernel depends on `u / length^power`.
    pub(crate) fn power(&self) -> f64 {
        match self.form {
            Form::GaussianVariance | Form::Laplace => 1.0,
            _ => 2.0,
        }
    }
}
