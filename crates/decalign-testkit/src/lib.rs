//! Shared helpers of the tests of decalign's numerical crates. Not published.
//!
//! | module | contents |
//! |---|---|
//! | [`tensors`] | seeded inputs ([`normal`], [`uniform`], [`weights`], [`points`]) and tensors as numbers ([`numbers`], [`number`]) |
//! | [`compare`] | comparisons through `approx`: [`assert_close`], [`assert_relative`], [`largest_difference`] |
//! | [`corpus`] | [`Case`]: one problem through the reference, the CPU in f64 and f32, the emulator and a device |
//!
//! A test of one operation is a list of cases. Every case runs on every engine that it names a tolerance for:
//!
//! ```
//! use decalign_core::nn;
//! use decalign_testkit::{Case, check, normal};
//!
//! check([[3, 4], [2, 33]].map(|shape| {
//!     Case::new(format!("{shape:?}"), vec![normal(&shape, 1)], |x| Ok(vec![nn::softmax(&x[0])?]))
//!         .reference(|x| Ok(vec![nn::reference::softmax(&x[0])?]))
//!         .cpu(1e-14, 1e-6)
//!         .central_differences(1e-8)
//! }));
//! ```
//!
//! These helpers panic where a comparison fails, as assertions do.

// Tests are the only users: a failure is a panic with a message.
#![allow(clippy::unwrap_used)]

pub mod compare;
pub mod corpus;
pub mod tensors;

pub use compare::{assert_close, assert_relative, largest_difference, relative_difference};
pub use corpus::{Case, check};
pub use tensors::{
    normal, number, numbers, points, squared_distances, tensor, uniform, uniform_weights, weights,
};
