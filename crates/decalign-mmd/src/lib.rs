//! Maximum mean discrepancy and moment matching, differentiable on Candle tensors.
//!
//! Distances between samples, for any number of samples at once:
//!
//! ```text
//! MMD^2(x, y) = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`Kernel`] | Gaussian, Laplace, Matern and more; sums, products, multiples; learned lengths |
//! | [`Mmd`], [`MmdFamily`] | all pairs, biased or unbiased, weighted; one kernel or several in one pass |
//! | [`PermutationTest`], [`WildBootstrap`], [`MmdAgg`], [`MmdFuse`] | whether two samples are of one distribution |
//! | [`Hsic`] | whether two variables are independent |
//! | [`Power`] | how large samples have to be |
//! | [`moment_matching`] | squared differences of means, covariances and skewnesses |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Kernel values are never stored: memory is linear in the number of points. Points are taken about
//! their common mean before distances are, so a shift costs no digits.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_mmd::{Estimator, Kernel, Mmd};
//!
//! let x = Tensor::new(&[[0f32], [1.0], [2.0]], &Device::Cpu)?;
//! let y = Tensor::new(&[[5f32], [6.0], [7.0]], &Device::Cpu)?;
//! let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Biased);
//! assert!(mmd.squared(&x, &y)?.to_scalar::<f32>()? > 0.5);
//! assert!(mmd.root(&x, &x)?.to_scalar::<f32>()? < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Gretton and others, A kernel two-sample test, JMLR 2012.

mod estimator;
mod hypothesis;
mod kernel;
mod mmd;
mod moments;
mod pass;
pub mod reference;
mod sample;
mod statistic;

pub use decalign_core::{Error, Result};
pub use estimator::Estimator;
pub use hypothesis::{
    Aggregated, AggregatedKernel, Hsic, MmdAgg, MmdFuse, Outcome, PermutationTest, Power,
    Resampling, SimulatedPower, Stopping, WildBootstrap,
};
pub use kernel::{Kernel, Length, Smoothness};
pub use mmd::{Mmd, MmdFamily};
pub use moments::moment_matching;
pub use reference::VARIANCE_FLOOR;
pub use sample::Sample;
