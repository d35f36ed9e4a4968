//! What stands in for a device where there is none, and what runs all on the first that there is.

mod features;
mod gates;
mod suite;
mod tools;

pub(crate) use features::check;
pub(crate) use gates::run as gates;
pub(crate) use suite::run as suite;
pub(crate) use tools::install as tools;
