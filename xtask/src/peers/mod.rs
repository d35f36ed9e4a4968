//! Comparisons with other software on this machine.
//!
//! A comparison is a list of programs and a table of rows, `xtask/peers/NAME.table`. Each program prints what it
//! measured ([`measurements`]). The programs run alternately, ours first, several rounds, and the least value of each
//! measurement counts, so that one disturbed round does not decide.

mod measurements;
mod program;
mod table;

use measurements::Measurements;
use program::Program;

/// The comparisons and their tables.
const TABLES: [(&str, &str); 5] = [
    ("encode", include_str!("../../peers/encode.table")),
    ("gmm", include_str!("../../peers/gmm.table")),
    ("mmd", include_str!("../../peers/mmd.table")),
    ("ot", include_str!("../../peers/ot.table")),
    ("step", include_str!("../../peers/step.table")),
];

pub(crate) fn run(name: &str, options: &[&str]) -> Result<(), String> {
    let (json, rounds) = parse(options)?;
    let (_, table) = TABLES
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| {
            let known = TABLES.map(|(known, _)| known).join(", ");
            format!("peers {name}: no such comparison; choose one of {known}")
        })?;
    let rows = table::parse(table)?;
    let programs = programs(name)?;
    let mut measurements = Measurements::default();
    for round in 1..=rounds {
        for program in &programs {
            eprintln!("+ {}, round {round} of {rounds}", program.name);
            for line in program.run()? {
                measurements.add(program.name, &line)?;
            }
        }
    }
    match json {
        true => println!("{:#}", table::json(&rows, &measurements)),
        false => print!("{}", table::text(&rows, &measurements)),
    }
    Ok(())
}

/// The programs of a comparison, built and installed.
fn programs(name: &str) -> Result<Vec<Program>, String> {
    Ok(match name {
        "encode" => vec![program::encode()?, program::transformers()?],
        "gmm" => vec![
            program::ours("peers_gmm")?,
            program::python("sklearn", "gmm.py")?,
        ],
        "mmd" => vec![
            program::ours("peers_mmd")?,
            program::python("NumPy", "mmd.py")?,
        ],
        "ot" => vec![
            program::ours("peers_ot")?,
            program::python("POT", "pot.py")?,
            program::wass()?,
        ],
        _ => {
            let mut programs = vec![
                program::ours("peers_attention")?,
                program::torch("attention")?,
            ];
            // One process a preset, for the peak of its memory.
            for preset in ["mosi", "mosei", "sims", "iemocap"] {
                programs.extend([program::bench(preset)?, program::torch(preset)?]);
            }
            programs
        }
    })
}

/// `--json` and `--rounds N`.
fn parse(options: &[&str]) -> Result<(bool, usize), String> {
    match options {
        [] => Ok((false, 3)),
        ["--json", rest @ ..] => Ok((true, parse(rest)?.1)),
        ["--rounds", n, rest @ ..] => match n.parse() {
            Ok(n) if n > 0 => Ok((parse(rest)?.0, n)),
            _ => Err(format!("--rounds {n}: expected a number above 0")),
        },
        [other, ..] => Err(format!("{other}: expected --json or --rounds N")),
    }
}
