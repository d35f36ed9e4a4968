//! The program `decalign`: train, evaluate, predict with, verify and time models.

mod ablate;
mod args;
mod baselines;
mod bench;
mod compare;
mod config;
mod convert;
mod encode;
mod evaluate;
mod experiment;
mod inspect;
mod jobs;
mod output;
mod predict;
mod progress;
mod report;
mod run;
mod settings;
mod side_by_side;
mod source;
mod sweep;
mod table;
mod train;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use output::Failure;

/// Steps ask for the same large buffers over and over; this allocator gives those of the step before, already mapped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_candle_to_one_thread();
    let done = match Arguments::parse().command {
        Command::Train(arguments) => train::run(arguments),
        Command::Ablate(arguments) => ablate::run(arguments),
        Command::Sweep(arguments) => sweep::run(arguments),
        Command::Baselines(arguments) => baselines::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Encode(arguments) => encode::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            if !message.is_empty() {
                eprintln!("decalign: {message}");
            }
            ExitCode::from(code)
        }
    }
}

/// Candle's own threads wait for work by spinning, on the cores that ours compute on: a training step takes
/// 1.6 times as long with them. `CANDLE_NUM_THREADS` given from outside counts.
#[allow(unsafe_code)]
fn keep_candle_to_one_thread() {
    const KEY: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(KEY).is_none() {
        // SAFETY: the first thing that `main` does; there is no other thread that could read the
        // environment meanwhile.
        unsafe { std::env::set_var(KEY, "1") };
    }
}
