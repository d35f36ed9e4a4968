//! DecAlign: hierarchical cross-modal alignment for decoupled multimodal representation learning

pub mod checkpoint;
pub mod config;
mod error;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod optim;
pub mod train;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
