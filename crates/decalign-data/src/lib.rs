//! Multimodal data sets: files of many formats in, tensors for training out.
//!
//! A [`Dataset`] holds N samples. Each [`Modality`] is a tensor (N, T, D): T steps of D features, with lengths where
//! sequences end early. [`Labels`] are scores or classes. A split assigns every sample to a [`Part`]: training,
//! validation, test, or none; a data set may have several splits, by name.
//!
//! ```
//! use candle_core::{DType, Device};
//! use decalign_data::{BatchSampler, Dataset, Part};
//!
//! let digits = Dataset::mfeat()?.select(&["fou", "kar", "zer"])?;
//! let rows = digits.part(None, Part::Train)?;
//! for rows in BatchSampler::new(rows, 32, 1)?.epoch(0) {
//!     let batch = digits.batch(&rows, DType::F32, &Device::Cpu)?;
//!     assert_eq!(batch.sequences[1].features.dims()[1..], [1, 64]);
//! }
//! # Ok::<(), decalign_data::Error>(())
//! ```
//!
//! # The way of the data
//!
//! 1. [`Dataset::open`] detects the [`Format`] and reads safetensors, npz, npy, pickles in MMSA's layout, folders of
//!    tables, JSON lines and mappings. Files are mapped; features are read on demand. [`pickle`] and [`mod@array`] are
//!    useful alone.
//! 2. [`Dataset::inspect`] reports problems, each with a remedy.
//! 3. Preparation: [`Dataset::with_fractions`] and [`Dataset::with_folds`] make splits, [`Dataset::with_zero_tails`]
//!    finds lengths, [`Dataset::replace_non_finite`] removes NaN.
//! 4. [`Dataset::write`] writes the container (safetensors), npz, or a pickle.
//! 5. Training: a [`Standardizer`] is fitted to the training part and applied to all parts, a [`BatchSampler`] shuffles,
//!    [`Dataset::batch`] makes tensors.

pub mod array;
mod atomic;
mod batch;
mod bytes;
mod container;
mod dataset;
mod digest;
mod embedded;
mod error;
mod features;
mod fields;
mod finite;
mod inspect;
mod labels;
mod mmsa;
mod modality;
mod npy;
mod open;
pub mod pickle;
mod prepare;
mod sampler;
mod split;
mod standardize;
mod text;
mod tokens;
mod write;

pub use candle_core;

pub use atomic::{AtomicFile, write_atomic};
pub use batch::{Batch, Sequence};
pub use dataset::Dataset;
pub use digest::FileDigest;
pub use error::{Error, Result};
pub use finite::NonFinite;
pub use inspect::{Finding, Inspection, LabelSummary, ModalitySummary, Severity, SplitSummary};
pub use labels::Labels;
pub use modality::{Modality, ModalityKind};
pub use npy::{open_npy, read_npy};
pub use open::Format;
pub use prepare::SplitOptions;
pub use sampler::BatchSampler;
pub use split::{PAPER_COUNT, Part};
pub use standardize::{Standardizer, Statistics};
pub use tokens::Tokens;
pub use write::{OutputFormat, Precision};
