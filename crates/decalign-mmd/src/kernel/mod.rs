//! Kernels: similarities of two points.
//!
//! A family of kernels is one file: constructors, value and slope as loops see them, the text of both for
//! devices, the kernel matrix in tensor operations and, where it is known, the spectrum. To add one, write
//! its file, list the module here, and list its profile in `families.rs` if it is a new one.

mod bandwidth;
mod dot;
mod energy;
mod expression;
mod families;
mod family;
mod gaussian;
mod laplace;
mod matern;
mod profile;
mod rational_quadratic;

pub use bandwidth::Bandwidth;
pub use expression::Kernel;
pub use matern::Smoothness;

pub(crate) use expression::positive;
pub(crate) use families::Profile;
pub(crate) use family::{Feature, root};
pub(crate) use profile::{Buffer, buffer};
