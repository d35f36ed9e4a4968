//! Gaussian mixtures by expectation maximisation, differentiable on Candle tensors.
//!
//! ```text
//! p(x) = sum_k pi_k N(x | mu_k, Sigma_k)
//! ```
//!
//! [`Em`] fits the mixture to data, a batch of data sets in one call, with sample weights; a [`Fit`] holds
//! the [`Mixture`] and says how the fit ended. Bad input and singular covariances are errors with the numbers,
//! never NaN.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_gmm::{Covariance, Em};
//!
//! // Two groups on a line.
//! let x = Tensor::new(&[[0.0f64], [0.2], [5.0], [5.2]], &Device::Cpu)?;
//! let fit = Em::new(2, Covariance::Diagonal)?.fit(&x)?;
//! assert!(fit.converged());
//! let labels = fit.mixture.assign(&x)?.to_vec1::<u32>()?;
//! assert!(labels[0] == labels[1] && labels[1] != labels[2] && labels[2] == labels[3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`Em`] | the settings of a fit, and `fit` |
//! | [`Covariance`], [`Start`], [`Dead`] | what covariances look like, where a fit starts, what becomes of components without samples |
//! | [`Fit`], [`End`], [`Stop`] | the mixture, its log-likelihoods, why the fit ended |
//! | [`Mixture`] | densities, responsibilities, criteria, samples, marginals, missing values, files |
//! | [`Gradient`], [`ImplicitSolve`] | gradients through a fit, and how well they are determined |
//! | [`OnlineEm`] | mini-batches, for data that does not fit or does not end |
//! | [`UnrolledEm`] | the DecAlign release's fit, number for number |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! # Which gradient
//!
//! A few steps carry the gradient of those steps, which is not that of the fit. Relative errors against the
//! implicit gradient, by how far two components lie apart in deviations (60 samples; the test `table` of
//! `tests/gradients.rs` computes them):
//!
//! | separation | five unrolled steps | one step |
//! |---|---|---|
//! | 4 | 7.4e-3 | 1.1e-1 |
//! | 2 | 9.8e-1 | 8.9e-1 |
//! | 1 | 1.2e0 | 9.3e-1 |
//! | 0.5 | 2.1e-1 | 6.7e-1 |
//!
//! Sources: Dempster, Laird and Rubin (1977) for EM; Cappé and Moulines (2009) for its online form; DecAlign
//! (ICLR 2026) for prototypes.

mod chunk;
mod covariance;
mod data;
mod fit;
mod frame;
mod kmeans;
mod maximise;
mod mixture;
mod online;
mod parameters;
mod pass;
pub mod reference;
mod release;

pub use covariance::Covariance;
pub use decalign_core::{Error, Result};
pub use fit::{Dead, Em, End, Fit, Gradient, ImplicitSolve, Start, Stop};
pub use mixture::Mixture;
pub use online::OnlineEm;
pub use release::{MASS_FLOOR, UnrolledEm, UnrolledFit, WEIGHT_FLOOR};
