//! `decalign sweep`.

mod space;

use decalign::config::Config;
use decalign_report::{Kind, Row};

use crate::args::Sweep;
use crate::experiment::Session;
use crate::output::{Done, Failure};
use space::{Setting, Space};

/// The weights of the two alignments, as in the paper's study of them; its best is .05 for both.
const PAPER: [&str; 2] = ["alpha=.01,.03,.05,.07,.1", "beta=.01,.03,.05,.07,.1"];

/// Settings that a sweep may have.
const MOST: usize = 10_000;

pub(crate) fn run(mut arguments: Sweep) -> Done {
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
    if space.len() > MOST {
        let message = format!(
            "{} settings: expected at most {MOST}; name fewer values",
            space.len()
        );
        return Err(Failure::bad_input(message));
    }
    let session = Session::open(&arguments.settings, &arguments.experiment, "sweep", None)?;
    let settings = space.settings(session.config.seed);
    let named = |setting: &Setting| -> Done<(String, Config)> {
        let mut config = session.config.clone();
        let mut name = Vec::new();
        for (key, value) in setting {
            let assignment = format!("{key}={}", space::text(value));
            config.set(&assignment)?;
            name.push(assignment);
        }
        Ok((name.join(" "), config))
    };
    let named: Vec<(String, Config)> = settings.iter().map(named).collect::<Done<_>>()?;
    let finished = session.train(&named)?;
    let each = named.into_iter().zip(settings).zip(finished);
    let rows = each.map(|(((name, _), setting), runs)| Row {
        name,
        group: "sweep".to_owned(),
        settings: setting.into_iter().collect(),
        runs: runs.into_iter().map(|f| f.single).collect(),
        differences: Vec::new(),
    });
    let rows = rows.collect();
    session.finish(&session.experiment(Kind::Sweep, space.keys(), rows))
}
