//! DecAlign: hierarchical cross-modal alignment for decoupled multimodal representation learning
//! (ICLR 2026), for any number of modalities.
//!
//! A modality `x_m` is projected to width d and decoupled into a unique part `s_m` and a common part `c_m`. Unique
//! parts are aligned through Gaussian prototypes and multi-marginal optimal transport (`L_hete`), common parts through
//! moments and kernel MMD (`L_homo`). A cross-modal transformer fuses the unique parts, and a linear head predicts a
//! score or a class. Training minimises
//!
//! ```text
//! L = L_task + w_dec L_dec + alpha L_hete + beta L_homo + w_ct L_ct
//! ```
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
//! let predictor = Predictor::new(outcome.model, &Device::Cpu)?;
//! println!("{:?}", predictor.predict(&digits, &[0, 1])?.label(0));
//! # Ok::<(), decalign::Error>(())
//! ```
//!
//! The modules in the order of a run; read [`config`] and [`train`] next:
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | every setting, presets, range checks |
//! | [`model`] | the network: projection, decoupling, fusion, the alignment losses |
//! | [`objective`] | task loss, contrastive loss and their weighted sum with the alignment losses |
//! | [`optim`] | Adam with L2 weight decay, gradient clipping, plateau schedule, early stopping |
//! | [`train`] | epochs, validation, the best weights, resuming; for any model and criterion |
//! | [`metrics`] | the benchmarks' metrics, bootstrap intervals and comparisons |
//! | [`checkpoint`], [`Predictor`] | files of trained models, predictions |
//! | [`baseline`] | reference points: majority class, ridge regression, networks of the literature |
//! | [`verify`] | comparison of the model with numbers recorded from the upstream PyTorch code |
//!
//! The numerical crates are re-exported: [`ot`], [`gmm`], [`mmd`], [`decouple`], [`fusion`], [`text`], on [`core`];
//! data sets come from [`data`]. [`candle_core`], [`Mode`], [`Parameters`], [`Stream`] and [`Sequence`] appear in
//! public signatures.

pub mod baseline;
pub mod checkpoint;
pub mod config;
mod dense;
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

pub use candle_core;
pub use decalign_core as core;
pub use decalign_core::nn::{Mode, Parameters};
pub use decalign_core::random::Stream;
pub use decalign_data as data;
pub use decalign_data::Sequence;
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
