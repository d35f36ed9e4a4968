//! The costs on devices: a launch forward, a launch back.

mod costs;
mod coupling;

pub(crate) use costs::program as costs_program;
pub(super) use costs::prototype_costs;
pub(super) use coupling::coupling_cost;
pub(crate) use coupling::program as coupling_program;

/// Lanes of a group.
const LANES: usize = 512;
