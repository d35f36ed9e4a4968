//! Other programs on the same problems, on this machine.
//!
//! A comparison is a list of programs and a table of rows ([`encode`], [`gmm`], [`mmd`], [`ot`], [`step`]). Each program prints what it
//! measured ([`measures`]); they run in turn, ours first, several times over, and the least value of
//! each measurement counts, so that a noisy moment does not decide.

mod encode;
mod gmm;
mod measures;
mod mmd;
mod ot;
mod programs;
mod step;
mod table;

use measures::Measures;
use programs::Program;
use table::Row;

/// One subject: who is compared, and what is asked.
struct Comparison {
    programs: Vec<Program>,
    rows: &'static [Row],
}

pub(crate) fn run(name: &str, options: &[&str]) -> Result<(), String> {
    let (json, rounds) = parse(options)?;
    let comparison = match name {
        "encode" => encode::comparison()?,
        "gmm" => gmm::comparison()?,
        "mmd" => mmd::comparison()?,
        "ot" => ot::comparison()?,
        "step" => step::comparison()?,
        _ => {
            return Err(format!(
                "peers {name}: there are `peers encode`, `peers gmm`, `peers mmd`, `peers ot` and `peers step`"
            ));
        }
    };
    let mut measures = Measures::default();
    for round in 1..=rounds {
        for program in &comparison.programs {
            eprintln!("+ {}, round {round} of {rounds}", program.name);
            for line in program.run()? {
                measures.add(program.name, &line)?;
            }
        }
    }
    match json {
        true => println!("{:#}", table::json(comparison.rows, &measures)),
        false => print!("{}", table::text(comparison.rows, &measures)),
    }
    Ok(())
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
