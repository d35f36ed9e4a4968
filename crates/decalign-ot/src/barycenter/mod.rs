//! Barycentres: means of several measures in transport cost, on a fixed or a free support.

mod bregman;
mod fixed;
mod free;
mod log_sums;
mod problem;
mod reference;
mod solution;
mod support;

pub use fixed::FixedSupportBarycenter;
pub use free::{FreeSupportBarycenter, FreeSupportSolution};
pub use problem::BarycenterProblem;
pub use reference::unrolled_barycenter;
pub use solution::BarycenterSolution;
pub use support::Support;
