//! Helpers of the benchmarks: timing, memory, the device of the command line, and the measurements that
//! `cargo xtask peers` reads.
#![allow(clippy::unwrap_used)]

pub mod device;
pub mod machine;
mod memory;
mod timing;

pub use memory::Memory;
pub use timing::{least, least_within, pool, thread_count};

/// Prints a measurement as a line of JSON: `{"name": ..., "value": ...}`; null where the value is not finite.
pub fn print(name: &str, value: f64) {
    match value.is_finite() {
        true => println!(r#"{{"name": "{name}", "value": {value}}}"#),
        false => println!(r#"{{"name": "{name}", "value": null}}"#),
    }
}

/// Prints the time of one of `per` further steps, `(value - less) / per`: a long run less a short one, so that
/// set-up does not count.
pub fn print_step(name: &str, value: f64, less: f64, per: usize) {
    println!(r#"{{"name": "{name}", "value": {value}, "less": {less}, "per": {per}}}"#);
}
