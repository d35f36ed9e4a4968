//! numpy's arrays.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = decalign_data::read_npy(bytes.to_vec()) {
        let _ = array.to_f64();
        let _ = array.to_i64();
        let _ = array.to_strings();
    }
});
