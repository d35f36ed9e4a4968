//! Tests of items that are not public.

mod aggregated;
mod outcome;
mod power;
mod relabelling;
mod two_samples;
