//! Costs: what it takes to move mass from one point to another.

mod cost;
mod coupling;
mod eigen;
mod full_gaussian;
mod gaussian;
mod pairs;
mod reduction;

pub(crate) use cost::{Costs, padded, read};

pub use cost::Geometry;
pub use coupling::coupling_cost;
pub use full_gaussian::{bures_wasserstein, entropic_gaussian};
pub use gaussian::bures_wasserstein_diagonal;
pub use reduction::Reduction;
