//! The folder of a run and what is in it; `docs/runs.md` describes it.

pub(crate) mod events;
pub(crate) mod folder;
pub(crate) mod metrics;
pub(crate) mod predictions;
pub(crate) mod record;
