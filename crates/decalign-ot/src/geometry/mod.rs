//! Costs: what it takes to move mass from one point to another.

mod coupling;
mod gaussian;
mod reduction;

pub use coupling::coupling_cost;
pub use gaussian::bures_wasserstein_diagonal;
pub use reduction::Reduction;
