//! The versions of this program, as `run.json` records them.

use decalign_report::run_folder::ProgramRecord;

/// The version of Candle that this program is built with; a test holds it against the lock file.
pub(crate) const CANDLE: &str = "0.11.1";

pub(crate) fn program() -> ProgramRecord {
    let features = [
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("mkl", cfg!(feature = "mkl")),
        ("accelerate", cfg!(feature = "accelerate")),
    ];
    let features = features.into_iter().filter(|(_, on)| *on);
    let mut program = ProgramRecord::default();
    program.name = env!("CARGO_PKG_NAME").trim_end_matches("-cli").to_owned();
    program.version = env!("CARGO_PKG_VERSION").to_owned();
    program.rustc = env!("DECALIGN_RUSTC").to_owned();
    program.candle = CANDLE.to_owned();
    program.features = features.map(|(name, _)| name.to_owned()).collect();
    program
}
