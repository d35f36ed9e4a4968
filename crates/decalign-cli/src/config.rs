//! `decalign config`.

use decalign::config::Config;

use crate::args;
use crate::output::{CliResult, print};

pub(crate) fn run(arguments: args::Config) -> CliResult {
    let mut config = match &arguments.preset {
        Some(name) => Config::preset(name)?,
        None => Config::default(),
    };
    for assignment in &arguments.set {
        config.set(assignment)?;
    }
    config.check_ranges()?;
    print(&(config.to_json()? + "\n"))
}
