//! DecAlign: hierarchical cross-modal alignment for decoupled multimodal representation learning
//! (ICLR 2026), for any number of modalities.
//!
//! A modality's features are decoupled into a unique and a common part. Unique parts are aligned
//! through Gaussian prototypes and multi-marginal optimal transport, common parts through moments
//! and kernel MMD; a cross-modal transformer fuses them and a linear head predicts a score or a
//! class.
//!
//! ```
//! use candle_core::Device;
//! use decalign::config::Config;
//! use decalign::train::{DecAlignTrainer, Silent};
//! use decalign::{Dataset, Predictor};
//!
//! let digits = Dataset::mfeat()?;
//! let mut config = Config::preset("mfeat")?;
//! config.set("modalities=fou,kar,zer")?;
//! config.set("num_epochs=1")?;
//! let outcome = DecAlignTrainer::new(&config, &digits, &Device::Cpu)?.run(None, &mut Silent)?;
//! let predictor = Predictor::new(outcome.checkpoint, &Device::Cpu)?;
//! println!("{:?}", predictor.predict(&digits, &[0, 1])?.label(0));
//! # Ok::<(), decalign::Error>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | every setting, presets, checks |
//! | [`model`] | the network: projection, decoupling, fusion, the alignment losses |
//! | [`objective`] | task, contrastive and total loss |
//! | [`optim`] | Adam with L2, clipping, plateau schedule, early stopping |
//! | [`train`] | epochs, validation, the best checkpoint, resuming; any model, any objective |
//! | [`metrics`] | the benchmarks' figures, bootstrap intervals and comparisons |
//! | [`checkpoint`], [`Predictor`] | files of trained models, predictions |
//! | [`baseline`] | what a model has to beat |
//! | [`verify`] | the model held against recorded numbers of the PyTorch release |
//!
//! The numerical crates are re-exported: [`ot`], [`gmm`], [`mmd`], [`decouple`], [`fusion`], on
//! [`core`]; data sets come from [`data`].

pub mod baseline;
pub mod checkpoint;
pub mod config;
mod error;
mod fingerprint;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod optim;
mod predict;
mod preprocess;
pub mod train;
pub mod verify;

pub use checkpoint::Checkpoint;
pub use decalign_data::Dataset;
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::fingerprint;
pub use predict::{Predictions, Predictor};

pub use decalign_core as core;
pub use decalign_data as data;
pub use decalign_decouple as decouple;
pub use decalign_fusion as fusion;
pub use decalign_gmm as gmm;
pub use decalign_mmd as mmd;
pub use decalign_ot as ot;
pub use decalign_text as text;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<decalign_core::device::Program>> {
    use candle_core::DType::{F32, F64};
    let mut all = Vec::new();
    for dtype in [F32, F64] {
        all.push(objective::device::losses_program(dtype)?);
        all.push(objective::device::contrastive_program(dtype)?);
        all.push(optim::device::adam_program(dtype)?);
    }
    Ok(all)
}
