//! Sums of products of kernels.

use std::ops::{Add, Mul};
use std::sync::Arc;

use decalign_core::{Error, Result};

use super::bandwidth::Bandwidth;
use super::family::Family;

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

/// One kernel of the table with its bandwidth, 1 where the family has none.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) family: Arc<dyn Family>,
    pub(crate) bandwidth: Bandwidth,
}

impl Kernel {
    pub(super) fn leaf(family: impl Family + 'static, bandwidth: Bandwidth) -> Self {
        let leaves = vec![Leaf {
            family: Arc::new(family),
            bandwidth,
        }];
        Self {
            terms: vec![Term {
                factor: 1.0,
                leaves,
            }],
        }
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

    /// Whether the kernel is positive definite among all weights, not only among those that sum to 0.
    pub(crate) fn is_positive_definite(&self) -> bool {
        self.leaves().all(|l| l.family.is_positive_definite())
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
        if !(self.is_positive_definite() && other.is_positive_definite()) {
            let remedy = "a product with it is not positive definite: add kernels to it instead";
            let name = "a factor of the product";
            return Err(Error::value(name, "the energy kernel", remedy));
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

/// Refuses a number that is not positive and finite.
pub(crate) fn positive(name: &str, value: f64) -> Result<f64> {
    match value > 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(Error::value(name, value, "must be positive and finite")),
    }
}
