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
mod job_runner;
mod memory_budget;
mod output;
mod parallel_jobs;
mod predict;
mod report;
mod run;
mod settings;
mod source;
mod sweep;
mod table;
mod train;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use output::Failure;

/// Every training step allocates the same large buffers; this allocator reuses those of the step before.
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

/// Limits Candle to one thread: its threads spin while they wait, on the cores of the rayon pool, and make a training
/// step take 1.6 times as long. An existing `CANDLE_NUM_THREADS` is respected.
#[allow(unsafe_code)]
fn keep_candle_to_one_thread() {
    const KEY: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(KEY).is_none() {
        // SAFETY: the first thing that `main` does; there is no other thread that could read the
        // environment meanwhile.
        unsafe { std::env::set_var(KEY, "1") };
    }
}
