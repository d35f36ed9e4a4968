//! Every device program assembles. With `DECALIGN_DEVICE_SOURCES` naming a folder, their sources are written there, as
//! `cargo xtask device-gates` compiles them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::{env, fs};

use decalign_core::device::Language;

#[test]
fn every_device_program_has_sources() {
    let mut all = decalign_core::device_programs().unwrap();
    all.extend(decalign::fusion::device_programs().unwrap());
    all.extend(decalign::decouple::device_programs().unwrap());
    all.extend(decalign::gmm::device_programs().unwrap());
    all.extend(decalign::mmd::device_programs().unwrap());
    all.extend(decalign::ot::device_programs().unwrap());
    all.extend(decalign::device_programs().unwrap());
    let folder = env::var("DECALIGN_DEVICE_SOURCES").ok();
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).unwrap();
    }
    for program in all {
        assert!(!program.functions().unwrap().is_empty());
        for (language, ending) in [(Language::Cuda, "cu"), (Language::Metal, "metal")] {
            let text = program.text(language);
            if let Some(folder) = &folder {
                let path = Path::new(folder).join(format!("{}.{ending}", program.title()));
                fs::write(path, text).unwrap();
            }
        }
    }
}
