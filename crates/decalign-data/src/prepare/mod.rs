//! What is done to data before it is used: splits made, lengths found, samples marked.

mod assign;
mod groups;
mod lengths;
mod split;

pub(crate) use lengths::zero_tails;
pub use split::SplitPlan;
