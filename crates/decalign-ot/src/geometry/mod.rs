//! Costs: what it takes to move mass from one point to another.

mod cost;
mod costs;
mod grid;
mod matrix;
mod metric;
mod pairs;

pub(crate) use cost::Kind;
pub(crate) use costs::{Cells, Costs, PIECE, Weights};
pub(crate) use grid::Grid;
pub(crate) use metric::{Metric, ROWS, padded};

pub use cost::Geometry;
pub use matrix::cost;
