//! Costs: what it takes to move mass from one point to another.

mod backward;
mod cells;
mod cost;
mod costs;
mod grid;
mod matrix;
mod metric;
mod pairs;

pub(crate) use backward::Weights;
pub(crate) use cells::{Cells, ROWS, padded};
pub(crate) use cost::Kind;
pub(crate) use costs::Costs;
pub(crate) use grid::Grid;
pub(crate) use metric::Metric;

pub use cost::Geometry;
pub use matrix::cost;
