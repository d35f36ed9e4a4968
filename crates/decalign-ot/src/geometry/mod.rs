//! Costs: what it takes to move mass from one point to another.

mod cost;
mod coupling;
mod gaussian;
mod reduction;

pub(crate) use cost::{Costs, padded, read};

pub use cost::Geometry;
pub use coupling::coupling_cost;
pub use gaussian::bures_wasserstein_diagonal;
pub use reduction::Reduction;
