//! Passes over all pairs of pooled samples, in tiles.
//!
//! Samples are cut into blocks of rows; a task is a pair of blocks, and within a sample each pair of
//! points is met once. A task goes through its pairs a buffer at a time: it fills the buffer with
//! distances (shared by all kernels that need them), turns them into kernel values, and
//!
//! - [`PooledSamples::sums`] adds them up,
//! - [`PooledSamples::backward`] computes the gradient of such sums by points, weights and bandwidths,
//! - [`PooledSamples::kernel_product`] multiplies the kernel matrix with a block of vectors.
//!
//! Memory is a small multiple of that of the samples. Tasks that write to blocks run in rounds in which no
//! block appears twice, so results do not depend on the number of threads.

mod backward;
pub(crate) mod device;
mod matrix_product;
mod plan;
mod pooled_samples;
pub(crate) mod schedule;
mod sums;
mod tile;
mod weighting;

pub(crate) use backward::{Coefficient, PairwiseGradients, Target};
pub(crate) use plan::KernelPlan;
pub(crate) use pooled_samples::{Inputs, PooledSamples, Task};
pub(crate) use sums::Sum;
pub(crate) use tile::{Tile, TileRange, mask};
