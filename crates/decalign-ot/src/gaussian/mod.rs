//! Transport between Gaussians in closed form: diagonal and full covariances, exact and entropic.

pub(crate) mod device;
mod diagonal;
mod eigen;
mod entropic;
mod full;
mod jacobi;
mod moments;

pub use diagonal::bures_wasserstein_diagonal;
pub use entropic::entropic_gaussian;
pub use full::bures_wasserstein;

/// Added to the product of two variances under the root, so that its gradient is finite at 0.
pub const ROOT_SHIFT: f64 = 1e-8;
