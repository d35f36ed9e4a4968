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
//! | [`median_distance`], [`lengths_between_quantiles`] | kernel lengths from the data |
//! | [`Mmd::blocks`], [`Mmd::incomplete`], [`Mmd::linear_time`] | estimates from some of the pairs |
//! | [`Mmd::estimate`], [`Mmd::witness`] | with the asymptotic variance; where samples differ |
//! | [`StreamingMmd`] | data in chunks |
//! | [`RandomFeatures`], [`Nystrom`] | approximations in linear time |
//! | [`PermutationTest`], [`WildBootstrap`], [`MmdAgg`], [`MmdFuse`] | whether two samples are of one distribution |
//! | [`Hsic`] | whether two variables are independent |
//! | [`Power`] | how large samples have to be |
//! | [`moment_matching`] | squared differences of means, covariances and skewnesses |
//! | [`CentralMoments`], [`coral`] | central moments of any order, covariances |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Kernel values are never stored: memory is linear in the number of points. Points are taken about
//! their common mean before distances are, so a shift costs no digits.
//!
//! Samples on a device stay there: [`Mmd`] and [`MmdFamily`] take a few launches for which the host does not wait, and numbers are
//! not checked. With weights, learned lengths, products of kernels or the cosine they go through [`mod@reference`].
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

mod bandwidth;
mod coral;
mod estimator;
mod hypothesis;
mod incomplete;
mod kernel;
mod mmd;
mod moments;
mod nystrom;
mod pass;
mod products;
mod random_features;
pub mod reference;
mod sample;
mod statistic;
mod streaming;
mod variance;

pub use bandwidth::{
    distance_quantiles, lengths_between_quantiles, median_distance, median_distance_of_subsample,
};
pub use coral::{CentralMoments, coral};
pub use decalign_core::{Error, Result};
pub use estimator::Estimator;
pub use hypothesis::{
    Aggregated, AggregatedKernel, Hsic, MmdAgg, MmdFuse, Outcome, PermutationTest, Power,
    Resampling, SimulatedPower, Stopping, WildBootstrap,
};
pub use kernel::{Kernel, Length, Smoothness};
pub use mmd::{Mmd, MmdFamily};
pub use moments::moment_matching;
pub use nystrom::Nystrom;
pub use random_features::RandomFeatures;
pub use reference::VARIANCE_FLOOR;
pub use sample::Sample;
pub use streaming::StreamingMmd;
pub use variance::Estimate;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<decalign_core::device::Program>> {
    use candle_core::DType::{F32, F64};
    let mut all = pass::device::programs()?;
    for dtype in [F32, F64] {
        all.push(moments::device::moments_program(dtype)?);
    }
    Ok(all)
}
