//! Costs between the mixtures of several modalities: prototypes to prototypes, samples to prototypes.

mod costs;
mod coupling;
pub(crate) mod device;

pub use costs::{PrototypeCosts, prototype_costs};
pub use coupling::coupling_cost;
