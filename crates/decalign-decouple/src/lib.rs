//! Decoupling of modalities into unique and common features: encoders, losses, diagnostics.
//!
//! The features `x_m` of every modality pass two linear encoders: one of the modality, `s_m = U_m x_m`, and one that
//! all modalities share, `c_m = C x_m`. Losses keep the two parts apart, make the common parts alike and
//! keep all information. DecAlign's loss is
//!
//! ```text
//! L_dec = mean over modalities of mean over samples of cos(vec(s_m), vec(c_m))^2
//! ```
//!
//! ```
//! use decalign_decouple::candle_core::{DType, Device, Tensor};
//! use decalign_decouple::{Batch, CosineSquared, Decoupler, Diagnostics, Objectives, PairwiseLoss};
//! use decalign_decouple::{BandwidthRule, Hsic, HsicEstimator, Parameters, PartPairs};
//!
//! let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
//! let names = ["text", "audio"];
//! let decoupler = Decoupler::new(&parameters, &names, 8)?;
//! let text = Tensor::randn(0f32, 1.0, (30, 10, 8), &Device::Cpu)?;
//! let audio = Tensor::randn(0f32, 1.0, (30, 25, 8), &Device::Cpu)?;
//! let parts = decoupler.forward_all(&[text, audio])?;
//!
//! let hsic = Hsic::new(HsicEstimator::Normalised, BandwidthRule::Median)?;
//! let apart = Objectives::new()
//!     .with(1.0, PairwiseLoss::new(CosineSquared, &[PartPairs::UniqueCommon])?)?
//!     .with(0.1, PairwiseLoss::new(hsic, &[PartPairs::UniqueCommon, PartPairs::UniqueUnique])?)?;
//! let losses = apart.evaluate(&Batch::new(&parts)?)?;
//! assert!(losses.total.to_scalar::<f32>()? <= 1.1);
//!
//! // Both parts are linear in the same features: each predicts the other.
//! let report = Diagnostics::new().report(&names, &parts)?;
//! println!("{report}");
//! assert!(report.modalities[0].common_from_unique.r2.unwrap_or(0.0) > 0.9);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | measure that keeps parts apart | small when the parts are | maximum |
//! |---|---|---|
//! | [`CosineSquared`] | orthogonal, sample by sample | 1 |
//! | [`CosineMargin`] | orthogonal, up to a margin | 1 - margin |
//! | [`Orthogonality`] | orthogonal about their means, over the batch | 1 |
//! | [`CrossCorrelation`] | uncorrelated, column by column, at any scale | 1 |
//! | [`Hsic`] | independent, by kernels | 1 (normalised) |
//! | [`Club`] | independent, by a bound of mutual information with learned densities; [`club()`] for given ones | none |
//!
//! | objective that makes parts alike | compares |
//! |---|---|
//! | [`CentralMomentDiscrepancy`] | distributions of two parts, coordinate by coordinate |
//! | [`Barlow`] | column i of one part with column i of the other, and with no other column |
//! | [`TripletMargin`] | samples of one class across modalities with other classes |
//! | [`Reconstruction`] | the features with those decoded from both parts |
//!
//! | around them | |
//! |---|---|
//! | [`Decoupler`] | the encoders of any number of modalities |
//! | [`PairwiseLoss`], [`PartPairs`], [`TimeAxis`] | the mean of a [`Measure`] over pairs of parts |
//! | [`Objectives`] | weighted sums of these and of your own [`Objective`]s |
//! | [`Diagnostics`] | how well each part predicts the other on held-out samples; a table |
//! | [`mod@reference`], [`Measure::reference`] | losses in plain tensor operations |
//!
//! # Devices
//!
//! [`Decoupler`] and [`cosine_squared`] run in kernels of this workspace on CUDA and Metal, forward and backward.
//! The other measures, [`club()`] and [`TripletMargin`] run by their reference there, in tensor operations on the
//! device; their inputs are copied to the host once, to check that they are finite. [`Diagnostics`] compute on the host.
//!
//! Source: DecAlign (ICLR 2026), section on decoupling; the squared cosine follows the authors' implementation.

mod club;
mod diagnostics;
mod encoder;
mod measure;
mod objective;
mod reconstruction;
pub mod reference;
mod table;
mod tensor;

pub use candle_core;
pub use club::{Club, club};
pub use decalign_core::nn::Parameters;
pub use decalign_core::random::Stream;
pub use decalign_core::{Error, ErrorKind, Result};
pub use diagnostics::{Diagnostics, Leakage, Prediction, Report};
pub use encoder::{Decoupled, Decoupler};
pub use measure::*;
pub use objective::{
    Batch, Losses, Objective, Objectives, PairwiseLoss, PartPairs, TimeAxis, TripletMargin,
};
pub use reconstruction::{Reconstruction, reconstruction_error};
pub use tensor::NORM_FLOOR;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<decalign_core::device::Program>> {
    use candle_core::DType::{F32, F64};
    [F32, F64]
        .map(measure::device::cosine_program)
        .into_iter()
        .collect()
}
