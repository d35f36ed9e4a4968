//! Configurations.
#![no_main]

use decalign::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::from_json(text) {
        let _ = config.check_ranges();
        let _ = config.resolve_alone();
    }
});
