//! The container, safetensors.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = decalign_data::Dataset::read_safetensors(bytes, "fuzz") {
        let _ = data.inspect();
    }
});
