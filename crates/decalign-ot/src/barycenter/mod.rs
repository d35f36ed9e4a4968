//! Means of measures: what lies nearest to several of them at once.

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
