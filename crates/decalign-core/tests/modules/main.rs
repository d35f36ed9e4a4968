//! The modules of the crate, each by its public items.
#![allow(clippy::unwrap_used)]

mod branches;
mod cholesky;
mod gemm;
mod mapped;
mod pairs;
mod parameters;
mod profile;
mod random;
mod record;
mod simd;
mod tape;
