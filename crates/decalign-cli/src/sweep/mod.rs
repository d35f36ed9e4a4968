//! `decalign sweep`.

mod space;

use decalign::config::Config;
use decalign_report::{ExperimentKind, SettingResult};

use crate::args::Sweep;
use crate::experiment::ExperimentSession;
use crate::output::{CliResult, Failure};
use space::{Setting, Space};

/// The weights of the two alignments in the paper's study; it finds .05 best for both.
const PAPER: [&str; 2] = ["alpha=.01,.03,.05,.07,.1", "beta=.01,.03,.05,.07,.1"];

/// The largest number of settings.
const MAX_SETTINGS: usize = 10_000;

pub(crate) fn run(mut arguments: Sweep) -> CliResult {
    let paper = arguments.settings.preset.as_deref() == Some("paper");
    if paper {
        arguments.settings.preset = None;
    }
    if paper || (arguments.grid.is_empty() && arguments.random.is_empty()) {
        arguments.grid.extend(PAPER.map(str::to_owned));
    }
    let space = Space::new(
        &arguments.grid,
        &arguments.random,
        arguments.trials.unwrap_or(1),
    )?;
    if space.len() > MAX_SETTINGS {
        let message = format!(
            "{} settings: expected at most {MAX_SETTINGS}; name fewer values",
            space.len()
        );
        return Err(Failure::bad_input(message));
    }
    let session = ExperimentSession::open(
        &arguments.settings,
        &arguments.experiment,
        ExperimentKind::Sweep,
        None,
    )?;
    let settings = space.settings(session.config.seed);
    let named = |setting: &Setting| -> CliResult<(String, Config)> {
        let mut config = session.config.clone();
        let mut name = Vec::new();
        for (key, value) in setting {
            let assignment = format!("{key}={}", space::text(value));
            config.set(&assignment)?;
            name.push(assignment);
        }
        Ok((name.join(" "), config))
    };
    let named: Vec<(String, Config)> = settings.iter().map(named).collect::<CliResult<_>>()?;
    let results = session.train(&ExperimentSession::jobs(&named))?;
    let each = named.into_iter().zip(settings).zip(results);
    let rows = each.map(|(((name, _), setting), runs)| {
        let runs = runs.into_iter().map(|r| r.seed).collect();
        SettingResult::new(name, "sweep", setting.into_iter().collect(), runs)
    });
    let rows = rows.collect();
    session.finish(&session.experiment(space.keys(), rows))
}
