//! Writes every device program, as its compiler gets it, into a folder: `cargo xtask device-gates` compiles them.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use decalign_core::device::{Language, programs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("usage: device_sources FOLDER")?;
    let mut all = programs()?;
    all.extend(decalign::fusion::device_programs()?);
    all.extend(decalign::decouple::device_programs()?);
    all.extend(decalign::gmm::device_programs()?);
    all.extend(decalign::mmd::device_programs()?);
    all.extend(decalign::ot::device_programs()?);
    all.extend(decalign::device_programs()?);
    fs::create_dir_all(&folder)?;
    for program in all {
        program.functions()?;
        for (language, ending) in [(Language::Cuda, "cu"), (Language::Metal, "metal")] {
            let path = Path::new(&folder).join(format!("{}.{ending}", program.title()));
            fs::write(path, program.text(language))?;
        }
        println!("{}", program.title());
    }
    Ok(())
}
