//! Multimodal data sets: named modalities, labels and splits; files, standardisation, batches.
//!
//! A [`Dataset`] holds N samples. Each [`Modality`] is a tensor (N, T, D): T steps of D features,
//! with lengths where sequences end early. [`Labels`] are scores or classes. A split gives every
//! sample a [`Part`]: training, validation, test, or none; a data set may have several, by name.
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
//! Files: [`Dataset::open`] reads safetensors, npz, npy, pickles in MMSA's layout, folders of tables,
//! JSON lines and mappings; [`Dataset::write`] writes the project's container, npz and pickles.
//! `docs/data-format.md` of the repository describes them. Features lie in mapped files until they
//! are asked for. [`pickle`] and [`mod@array`] are useful alone.
//!
//! Before training: [`Dataset::inspect`] says what is wrong and what to do; splits are made by
//! [`Dataset::with_fractions`] and [`Dataset::with_folds`]; [`Dataset::with_zero_tails`] finds lengths;
//! [`Standardizer`] is fitted on the training part and applied to all.

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

pub use atomic::{AtomicFile, write_atomic};
pub use batch::{Batch, Sequence};
pub use dataset::{Dataset, Modality, PAPER_COUNT};
pub use digest::FileDigest;
pub use error::{Error, Result};
pub use finite::NonFinite;
pub use inspect::{Finding, Inspection, LabelSummary, ModalitySummary, Severity, SplitSummary};
pub use labels::Labels;
pub use npy::{open_npy, read_npy};
pub use open::Format;
pub use prepare::SplitPlan;
pub use sampler::BatchSampler;
pub use split::Part;
pub use standardize::{Standardizer, Statistics};
pub use tokens::Tokens;
pub use write::{Precision, Target};
