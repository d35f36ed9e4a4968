//! Maximum mean discrepancy and moment matching, differentiable on Candle tensors.
//!
//! The maximum mean discrepancy (MMD) is a distance between samples, for any number of samples at once:
//!
//! ```text
//! MMD^2(x, y) = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)
//! ```
//!
//! ```
//! use decalign_mmd::candle_core::{Device, Tensor};
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
//! The steps, in the order in which one takes them:
//!
//! | step | items |
//! |---|---|
//! | choose a kernel | [`Kernel`]: Gaussian, Laplace, Matern and more; sums, products, multiples; learned [`Bandwidth`]s |
//! | choose its bandwidth | [`median_heuristic`], [`bandwidths_between_quantiles`] |
//! | compare samples, all pairs | [`Mmd`], [`MmdFamily`]: biased or unbiased, weighted; several kernels in one pass |
//! | from some of the pairs | [`Mmd::blocks`], [`Mmd::incomplete`], [`Mmd::linear_time`]; in chunks [`StreamingMmd`] |
//! | approximately, in linear time | [`RandomFeatures`], [`Nystrom`] |
//! | errors and explanations | [`Mmd::estimate`] with the asymptotic variance; [`Mmd::witness`] |
//! | test two samples | [`PermutationTest`], [`WildBootstrap`], [`MmdAgg`], [`MmdFuse`]; sample sizes by [`Power`] |
//! | test independence | [`HsicTest`] |
//! | match moments instead | [`moment_matching`], [`central_moment_discrepancy`], [`coral`] |
//! | check | [`mod@reference`]: the same in plain tensor operations |
//!
//! Kernel values are never stored: memory is linear in the number of points. Points are centred before
//! distances are computed, so a shift costs no digits.
//!
//! # Devices
//!
//! On CUDA and Metal, [`Mmd::squared`], [`Mmd::root`], [`Mmd::mean_over_pairs`], [`Mmd::matrix`], [`MmdFamily`],
//! [`Mmd::blocks`] and [`moment_matching`] (of up to eight samples) run in a few kernels of this crate, forward and
//! backward; the host does not wait for them, and entries are not checked. With weights, learned bandwidths, products
//! of kernels, the cosine or more than eight terms, MMD runs by [`mod@reference`] on the device, which holds n^2
//! numbers; so do [`coral`] and [`central_moment_discrepancy`]. Hypothesis tests and quantiles copy their samples to
//! the host. [`Mmd::incomplete`], [`Mmd::linear_time`], [`Mmd::estimate`], [`Mmd::witness`] and [`Nystrom`] take
//! tensors on the CPU only; [`RandomFeatures`] are tensor operations on any device.
//!
//! Source: Gretton and others, A kernel two-sample test, JMLR 2012.

mod coral;
mod estimator;
mod hypothesis;
mod incomplete;
mod kernel;
mod kernel_product;
mod mmd;
mod moments;
mod nystrom;
mod pairwise;
mod quantiles;
mod random_features;
pub mod reference;
mod sample;
mod statistic;
mod streaming;
mod variance;

pub use candle_core;
pub use coral::{central_moment_discrepancy, coral};
pub use decalign_core::moments::CentralMomentDiscrepancy;
pub use decalign_core::random::Stream;
pub use decalign_core::{Error, ErrorKind, Result};
pub use estimator::Estimator;
pub use hypothesis::{
    AggregatedKernel, AggregatedOutcome, HsicTest, MmdAgg, MmdFuse, Outcome, PermutationTest,
    Power, Resampling, SimulatedPower, Stopping, WildBootstrap,
};
pub use kernel::{Bandwidth, Kernel, Smoothness};
pub use mmd::{Mmd, MmdFamily};
pub use moments::moment_matching;
pub use nystrom::Nystrom;
pub use quantiles::{
    bandwidths_between_quantiles, distance_quantiles, median_heuristic,
    median_heuristic_of_subsample,
};
pub use random_features::RandomFeatures;
pub use reference::VARIANCE_FLOOR;
pub use sample::Sample;
pub use streaming::StreamingMmd;
pub use variance::Estimate;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<decalign_core::device::Program>> {
    use candle_core::DType::{F32, F64};
    let mut all = pairwise::device::programs()?;
    for dtype in [F32, F64] {
        all.push(moments::device::moments_program(dtype)?);
    }
    Ok(all)
}
