//! Decoupling of modalities into unique and common features: encoders, losses, diagnostics.
//!
//! Each modality's features `x_m` pass two linear encoders: its own, `s_m = U_m x_m`, and one that
//! all modalities share, `c_m = C x_m`. Losses keep the two apart, make the common parts alike and
//! the whole complete. DecAlign's is
//!
//! ```text
//! L_dec = mean over modalities of mean over samples of cos(vec(s_m), vec(c_m))^2
//! ```
//!
//! Others come from MISA, DSN, DMD, CLUB and Barlow twins, each without what makes it fail: norms that are
//! 0, roots at 0, constant features, values that grow with the batch, gradients that stop halfway.
//!
//! | apart | two parts are, in | at worst |
//! |---|---|---|
//! | [`CosineSquared`] | direction, sample by sample | 1 |
//! | [`CosineMargin`] | the same, beyond a margin | 1 - margin |
//! | [`Orthogonality`] | directions about the mean, over the batch | 1 |
//! | [`CrossCorrelation`] | linear dependence of columns, whatever their scale | 1 |
//! | [`Hsic`] | dependence of any kind, by kernels | 1 (normalised) |
//! | [`Club`] | mutual information, by a learned density; [`club()`] for your own | no bound |
//!
//! | alike | |
//! |---|---|
//! | [`CentralMomentDiscrepancy`] | two parts' distributions, coordinate by coordinate |
//! | [`Barlow`] | column i with column i, and with no other |
//! | [`TripletMargin`] | samples of one class across modalities, nearer than others |
//! | [`Reconstruction`] | what both parts make together with what they came from |
//!
//! | around them | |
//! |---|---|
//! | [`Decoupler`] | the encoders of any number of modalities |
//! | [`PairwiseLoss`], [`PartPairs`], [`TimeAxis`] | a measure over pairs of parts |
//! | [`Objectives`] | weighted sums of these and of your own [`Objective`]s |
//! | [`Diagnostics`] | how much of either part the other predicts, on samples left out; a table |
//! | [`mod@reference`] | the measures in plain tensor operations |
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use decalign_core::nn::Parameters;
//! use decalign_decouple::{Batch, PairwiseLoss, CosineSquared, Decoupler, Diagnostics};
//! use decalign_decouple::{BandwidthRule, Hsic, HsicEstimator, Objectives, PartPairs};
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
//! Source: DecAlign (ICLR 2026), section on decoupling; the squared cosine is the public release's.

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
