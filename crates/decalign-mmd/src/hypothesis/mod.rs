//! Hypothesis tests: do two samples come from one distribution, are two variables independent.
//!
//! With a vector v that is 1 on one sample and -n/m on the other, `v^T K v / n^2` is MMD^2. A
//! relabelling of the points is another such vector, so all relabellings are columns of a matrix,
//! and one pass over the pairs multiplies each tile of kernel values with all of them. Neither the
//! kernel matrix nor anything else of size n^2 is stored.
//!
//! Number b of the random vectors is a function of the seed and of b alone: results depend neither
//! on the number of threads nor on how many vectors a pass takes.

mod aggregated;
mod bandwidths;
mod fused;
mod independence;
mod kernel_test;
mod label_vectors;
mod outcome;
mod permutation;
mod power;
mod quadratic_forms;
mod relabelling;
#[cfg(test)]
mod tests;
mod two_samples;
mod wild;

pub use aggregated::{AggregatedKernel, AggregatedOutcome, MmdAgg};
pub use fused::MmdFuse;
pub use independence::HsicTest;
pub use outcome::{Outcome, Resampling, Stopping};
pub use permutation::PermutationTest;
pub use power::{Power, SimulatedPower};
pub use wild::WildBootstrap;
