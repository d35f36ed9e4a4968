//! How much two parts have in common: one number, with gradients.

mod barlow;
mod correlation;
mod cosine;
pub(crate) mod device;
mod hsic;
mod margin;
mod moments;
mod normal;
mod orthogonality;

use candle_core::Tensor;
use decalign_core::Result;

pub use barlow::Barlow;
pub use correlation::CrossCorrelation;
pub use cosine::{CosineSquared, NORM_FLOOR, cosine_squared};
pub use hsic::{Bandwidth, Hsic, HsicForm};
pub use margin::{CosineMargin, Side};
pub use moments::CentralMoments;
pub use orthogonality::Orthogonality;

pub(crate) use hsic::{CONSTANT, Centring, Gram};
pub(crate) use normal::{Directions, Standard};

/// A number between two parts of the same samples, to be made small.
///
/// [`Between`](crate::Between) makes an objective of it. Implementations here are fused on the CPU, value
/// and gradients in f64 whatever the dtype (but [`CosineSquared`], in the dtype itself), and held against
/// [`mod@crate::reference`].
pub trait Measure: std::fmt::Debug + Send + Sync {
    /// A name for reports.
    fn name(&self) -> &'static str;

    /// The measure of `a` and `b`.
    ///
    /// # Shapes
    /// `a` (n, d), `b` (m, e); which of n = m and d = e must hold the measure says. The result is a scalar.
    ///
    /// # Errors
    /// When shapes or dtypes differ, there are too few rows, or an entry is not finite.
    fn between(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;
}
