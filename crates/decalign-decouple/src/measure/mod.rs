//! Measures of dependence or distance between two parts: one number, with gradients.
//!
//! To add a measure, write one file here that implements [`traits::Fused`] (value and gradient in a loop, and the
//! same in tensor operations) and list it below: its module and its public type.

mod barlow;
mod central_moments;
mod cosine;
mod cosine_margin;
mod cross_correlation;
pub(crate) mod device;
mod hsic;
mod normalise;
mod orthogonality;
pub(crate) mod traits;

pub use barlow::Barlow;
pub use cosine::{CosineSquared, cosine_squared};
pub use cosine_margin::{CosineMargin, CosineSign};
pub use cross_correlation::CrossCorrelation;
pub use decalign_core::moments::CentralMomentDiscrepancy;
pub use hsic::{BandwidthRule, Hsic, HsicEstimator};
pub use orthogonality::Orthogonality;
pub use traits::Measure;

pub(crate) use hsic::{CONSTANT, Centring, Gram};
pub(crate) use normalise::{StandardColumns, UnitRows};
