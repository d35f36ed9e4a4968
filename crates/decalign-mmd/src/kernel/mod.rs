//! Kernels: similarities of two points.
//!
//! A [`Kernel`] is a sum of products of base kernels. A base kernel is a function (`profile.rs`) of one number of two points
//! (`family.rs`); `families` holds one file a family.

mod bandwidth;
mod expression;
mod families;
mod family;
mod profile;

pub use bandwidth::Bandwidth;
pub use expression::Kernel;
pub use families::Smoothness;

pub(crate) use expression::positive;
pub(crate) use families::Profile;
pub(crate) use family::{Feature, root};
pub(crate) use profile::{Buffer, buffer};
