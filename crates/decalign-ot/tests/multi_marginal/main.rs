//! Transport between several marginals.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod batches;
mod gradients;
mod hard;
mod known;
mod problems;
