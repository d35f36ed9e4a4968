//! Tests: whether two samples come from one distribution, whether two variables are independent.
//!
//! With a vector v that is 1 on one sample and -n/m on the other, `v^T K v / n^2` is MMD^2. A
//! relabelling of the points is another such vector, so all relabellings are columns of a matrix,
//! and one pass over the pairs multiplies each tile of kernel values with all of them. Neither the
//! kernel matrix nor anything else of size n^2 is stored.
//!
//! Number b of the random vectors is a function of the seed and of b alone: results depend neither
//! on the number of threads nor on how many vectors a pass takes.

mod aggregated;
mod collection;
mod forms;
mod fused;
mod hsic;
mod outcome;
mod permutation;
mod pooled;
mod power;
mod scheme;
mod vectors;
mod wild;

pub use aggregated::{Aggregated, AggregatedKernel, MmdAgg};
pub use fused::MmdFuse;
pub use hsic::Hsic;
pub use outcome::{Outcome, Resampling, Stopping};
pub use permutation::PermutationTest;
pub use power::{Power, SimulatedPower};
pub use wild::WildBootstrap;
