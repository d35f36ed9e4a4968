//! Costs: what it takes to move mass from one point to another.

mod backward;
mod cells;
mod cost;
mod costs;
mod coupling;
pub(crate) mod device;
mod grid;
mod matrix;
mod metric;

mod pairs;
mod prototypes;
mod reduction;

pub(crate) use cells::{Cells, ROWS, padded};
pub(crate) use cost::Kind;
pub(crate) use costs::Costs;
pub(crate) use grid::Grid;

pub(crate) use backward::Weights;
pub(crate) use metric::Metric;

pub use cost::Geometry;
pub use coupling::coupling_cost;
pub use matrix::cost;
pub use prototypes::{PrototypeCosts, prototype_costs};
pub use reduction::Reduction;
