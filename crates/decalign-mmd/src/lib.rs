//! Maximum mean discrepancy and moment matching, differentiable on Candle tensors.
//!
//! Distances between samples, for any number of samples at once:
//!
//! ```text
//! MMD^2(x, y) = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(a, b) = exp(-|a - b|^2 / (2 v))
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`GaussianMmd`] | kernel MMD with a Gaussian kernel, biased or unbiased |
//! | [`moment_matching`] | squared differences of means, covariances and skewnesses |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Kernel values are never stored: memory is linear in the number of samples.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_mmd::{Bandwidth, Estimator, GaussianMmd};
//!
//! let x = Tensor::new(&[[0f32], [1.0], [2.0]], &Device::Cpu)?;
//! let y = Tensor::new(&[[5f32], [6.0], [7.0]], &Device::Cpu)?;
//! let mmd = GaussianMmd::new(Bandwidth::length_scale(1.0)?, Estimator::Biased);
//! assert!(mmd.mmd2(&x, &y)?.to_scalar::<f32>()? > 0.5);
//! assert!(mmd.mmd2(&x, &x)?.to_scalar::<f32>()?.abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Gretton and others, A kernel two-sample test, JMLR 2012.

mod door;
mod estimator;
mod gaussian;
mod moments;
pub mod reference;

pub use decalign_core::{Error, Result};
pub use estimator::Estimator;
pub use gaussian::{Bandwidth, GaussianMmd};
pub use moments::moment_matching;
pub use reference::VARIANCE_FLOOR;
