//! Barycentres on fixed and free supports.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod fixed;
mod free;
mod gradients;
mod honest;
mod problems;
