//! Passes over all pairs of pooled samples, in tiles.
//!
//! Samples are cut into blocks of rows; a task is a pair of blocks, and within a sample each pair of
//! points is met once. A task goes through its pairs a buffer at a time: it fills the buffer with
//! distances (shared by all kernels that need them), turns them into kernel values, and
//!
//! - [`Pool::sums`] adds the values up,
//! - [`Pool::pull`] takes a gradient of such sums back to points, weights and lengths,
//! - [`Pool::products`] multiplies the kernel matrix with a block of vectors.
//!
//! Memory is that of the samples, a few times over. Tasks that write go in rounds in which no block
//! appears twice, so results do not depend on the number of threads.

pub(crate) mod device;
mod pool;
mod products;
mod program;
mod pull;
pub(crate) mod rounds;
mod sums;
mod tile;
mod weigh;

pub(crate) use pool::{Inputs, Pool, Task};
pub(crate) use program::Program;
pub(crate) use pull::{Coefficient, Pulled, Target};
pub(crate) use sums::Sum;
pub(crate) use tile::{Place, Tile, mask};
