//! Pickles, down to the features of the data set they make.
#![no_main]

use decalign_data::Dataset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = Dataset::read_pickle(bytes.to_vec(), "fuzz") {
        let rows: Vec<usize> = (0..data.len().min(4)).collect();
        let _ = data.inspect();
        let _ = data.tokens().map(|tokens| tokens.gather(&rows));
    }
});
