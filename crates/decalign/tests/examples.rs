//! The examples end without an error; each holds its own result to a bar.
#![allow(clippy::unwrap_used)]

#[path = "../examples/custom_pipeline.rs"]
mod custom_pipeline;
#[path = "../examples/transport_in_candle.rs"]
mod transport_in_candle;
#[path = "../examples/two_modalities.rs"]
mod two_modalities;

#[test]
fn a_custom_pipeline_of_three_crates() {
    custom_pipeline::main().unwrap();
}

#[test]
fn two_modalities_of_ones_own() {
    two_modalities::main().unwrap();
}

#[test]
fn transport_alone_in_a_candle_loop() {
    transport_in_candle::main().unwrap();
}
