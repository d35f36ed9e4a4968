//! The program `decalign`: train, evaluate, predict with, verify and time models.

mod args;
mod bench;
mod config;
mod evaluate;
mod output;
mod predict;
mod progress;
mod run_folder;
mod source;
mod table;
mod train;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use output::Failure;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Train(arguments) => train::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
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
