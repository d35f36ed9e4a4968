//! Decoupling of modalities into unique and common features.
//!
//! Each modality's features `x_m` pass two linear encoders: its own, `s_m = U_m x_m`, and one that
//! all modalities share, `c_m = C x_m`. A loss keeps the two apart:
//!
//! ```text
//! L_dec = mean over modalities of mean over samples of cos(vec(s_m), vec(c_m))^2
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`Decoupler`] | the encoders of any number of modalities |
//! | [`cosine_squared`] | the loss of one modality |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use decalign_core::nn::Parameters;
//! use decalign_decouple::{Decoupler, cosine_squared};
//!
//! let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
//! let decoupler = Decoupler::new(&parameters, &["text", "audio"], 8)?;
//! let text = Tensor::ones((4, 10, 8), DType::F32, &Device::Cpu)?;
//! let parts = decoupler.forward(0, &text)?;
//! let loss = cosine_squared(&parts.unique, &parts.common)?;
//! assert!((0.0..=1.0).contains(&loss.to_scalar::<f32>()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: DecAlign (ICLR 2026), section on decoupling; the squared cosine is the public release's.

mod cosine;
mod encoder;
pub mod reference;

pub use cosine::{NORM_FLOOR, cosine_squared};
pub use decalign_core::{Error, Result};
pub use encoder::{Decoupled, Decoupler};
