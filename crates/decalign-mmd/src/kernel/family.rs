//! The interface of a kernel family.

use candle_core::{D, Tensor};
use decalign_core::Result;
use decalign_core::random::Stream;

// Names that the files of families use.
pub(super) use super::bandwidth::Bandwidth;
pub(super) use super::expression::{Kernel, positive};
pub(super) use super::families::{Profile, ProfileKind};
pub(super) use super::profile::{Parameters, ProfileFunction};

/// The number u of two points that a kernel is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The squared Euclidean distance.
    Squared,
    /// The squared distance from differences, for kernels that take its root: small distances are exact.
    SquaredExact,
    /// The sum of absolute differences.
    CityBlock,
    /// The inner product of points about their common mean. MMD with a linear kernel does not depend on the origin.
    CentredDot,
    /// The inner product.
    Dot,
    /// The inner product of points divided by their norms.
    Cosine,
}

/// A kernel `k(a, b) = profile(u(a, b))`, u being a [`Feature`] of the points.
pub(crate) trait Family: std::fmt::Debug + Send + Sync {
    /// The feature; `alone`: of a term of one kernel within an MMD, where the origin cancels.
    fn feature(&self, alone: bool) -> Feature;

    /// The function of the feature.
    fn profile(&self, bandwidth: f64) -> Profile;

    /// The profile depends on `u / bandwidth^power`.
    fn power(&self) -> f64 {
        2.0
    }

    /// The kernel matrix `k(x_i, y_j)` in plain tensor operations.
    fn matrix(&self, x: &Tensor, y: &Tensor, bandwidth: &Bandwidth) -> Result<Tensor>;

    /// `width` rows of `count` random frequencies of the kernel's spectrum, for random Fourier features; `None`
    /// where the spectrum is not known.
    fn frequencies(
        &self,
        _bandwidth: f64,
        (_width, _count): (usize, usize),
        _stream: Stream,
    ) -> Option<Vec<f64>> {
        None
    }

    /// Whether the kernel is positive definite among all weights, not only among those that sum to 0.
    fn is_positive_definite(&self) -> bool {
        true
    }
}

/// All differences `x_i - y_j`, (n, m, d).
pub(super) fn differences(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?)
}

/// All squared Euclidean distances, (n, m).
pub(super) fn squared_distances(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(differences(x, y)?.sqr()?.sum(D::Minus1)?)
}

/// All Euclidean distances, (n, m), with gradient 0 at 0.
pub(super) fn distances(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    root(&squared_distances(x, y)?)
}

/// All inner products, (n, m).
pub(super) fn inner_products(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.matmul(&y.t()?.contiguous()?)?)
}

/// The square root, with gradient 0 at 0.
pub(crate) fn root(u: &Tensor) -> Result<Tensor> {
    let positive = u.gt(&u.zeros_like()?)?;
    let inside = positive.where_cond(u, &u.ones_like()?)?.sqrt()?;
    Ok((inside * positive.to_dtype(u.dtype())?)?)
}
