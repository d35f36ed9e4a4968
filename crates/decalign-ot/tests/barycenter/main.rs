//! Barycentres on fixed and free supports.

#![allow(clippy::unwrap_used)]

mod fixed;
mod free;
mod gradients;
mod honest;
mod problems;
