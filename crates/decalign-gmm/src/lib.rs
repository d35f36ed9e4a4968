//! Gaussian mixtures by expectation maximisation, differentiable on Candle tensors.
//!
//! A mixture of K Gaussians with diagonal covariance is fitted to a batch by a fixed number of EM
//! steps, and everything that comes out carries the exact gradient of that truncated algorithm:
//!
//! ```text
//! E:  gamma[b,k] = softmax_k( log pi_k - (sum_d (x - mu)^2 / var + sum_d log var + d log 2 pi) / 2 )
//! M:  n_k = sum_b gamma[b,k],  pi = n_k / B,  mu = gamma^T x / n_k,  var = gamma^T x^2 / n_k - mu^2
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`UnrolledEm`] | the settings, and `fit` |
//! | [`Fit`] | weights, means, variances and responsibilities |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_gmm::UnrolledEm;
//!
//! // Two groups on a line.
//! let x = Tensor::new(&[[0.0f64], [0.2], [5.0], [5.2]], &Device::Cpu)?;
//! let fit = UnrolledEm::new(2, 10, 1e-4)?.fit(&x)?;
//! let means = fit.means.flatten_all()?.to_vec1::<f64>()?;
//! assert!((means[0] - 0.1).abs() < 1e-6 && (means[1] - 5.1).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sources: Dempster, Laird and Rubin (1977) for EM; DecAlign (ICLR 2026) for prototypes.

mod em;
mod fit;
mod op;
pub mod reference;

pub use decalign_core::{Error, Result};
pub use em::{Fit, MASS_FLOOR, UnrolledEm, WEIGHT_FLOOR};
