//! Preparation before training: splits, lengths from zero padding, missing modalities.

mod assign;
mod groups;
mod lengths;
mod split;

pub(crate) use lengths::zero_tails;
pub use split::SplitOptions;
