//! What the program says, and how it ends.

use std::io::{ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// An error and the exit status. An empty message is not printed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

/// The result of a step of a command.
pub(crate) type CliResult<T = ()> = Result<T, Failure>;

/// The status of a run or a verification that failed.
pub(crate) const FAILED: u8 = 1;
/// The status when the input is bad.
pub(crate) const BAD_INPUT: u8 = 2;

/// The status of a run that Ctrl-C stopped.
pub(crate) const STOPPED: u8 = 130;

impl Failure {
    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        let (message, code) = (message.into(), BAD_INPUT);
        Self { message, code }
    }

    pub(crate) fn failed(message: impl ToString) -> Self {
        let (message, code) = (message.to_string(), FAILED);
        Self { message, code }
    }
}

impl From<decalign::Error> for Failure {
    fn from(error: decalign::Error) -> Self {
        use decalign::ErrorKind as Kind;
        let code = match error.kind() {
            Kind::Diverged | Kind::Numerical => FAILED,
            Kind::Interrupted => STOPPED,
            _ => BAD_INPUT,
        };
        Self {
            message: error.to_string(),
            code,
        }
    }
}

impl From<decalign_report::Error> for Failure {
    fn from(error: decalign_report::Error) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl From<decalign_data::Error> for Failure {
    fn from(error: decalign_data::Error) -> Self {
        decalign::Error::from(error).into()
    }
}

/// Writes to the standard output; a reader that has gone away is no failure.
pub(crate) fn print(text: &str) -> CliResult {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> CliResult {
    print(&(to_json(value)? + "\n"))
}

pub(crate) fn to_json(value: &impl Serialize) -> CliResult<String> {
    serde_json::to_string_pretty(value).map_err(Failure::failed)
}

/// A progress bar on a terminal; hidden elsewhere.
pub(crate) fn progress_bar(template: &str, length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
