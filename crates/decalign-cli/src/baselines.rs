//! `decalign baselines`.

use decalign::baseline::{BaselineSettings, BaselineTrainer, Method, baselines};
use decalign_report::{ExperimentKind, MetricValues, SeedResult, SettingResult};
use serde_json::{Map, Value, json};

use crate::args::Baselines;
use crate::experiment::ExperimentSession;
use crate::job_runner::Job;
use crate::output::CliResult;
use crate::run::BaselineModel;

pub(crate) fn run(arguments: Baselines) -> CliResult {
    let session = ExperimentSession::open(
        &arguments.settings,
        &arguments.experiment,
        ExperimentKind::Baselines,
        Some(&[1, 2, 3]),
    )?;
    let mut settings = BaselineSettings::default();
    settings.epochs = arguments.settings.epochs.unwrap_or(settings.epochs);
    let trainer = BaselineTrainer::new(&settings, &session.config, &session.data, &session.device)?;
    let baseline = |method| BaselineModel {
        trainer: &trainer,
        settings: &settings,
        method,
    };
    let job = |name: &str, baseline| Job {
        name: name.to_owned(),
        config: session.config.clone(),
        baseline,
    };
    let networks = Method::ALL
        .iter()
        .map(|m| job(m.name(), Some(baseline(*m))));
    let model = (!arguments.without_model).then(|| job("DecAlign", None));
    let jobs: Vec<Job<'_>> = networks.chain(model).collect();
    let results = session.train(&jobs)?;
    let rows = jobs.into_iter().zip(results).map(|(job, runs)| {
        let group = job.baseline.map_or("model", |_| "network");
        let settings = match json!(job.baseline.map(|_| settings)) {
            Value::Object(settings) => settings,
            _ => Map::new(),
        };
        let runs = runs.into_iter().map(|r| r.seed).collect();
        SettingResult::new(job.name, group, settings, runs)
    });
    let rows = without_network(&session)?.into_iter().chain(rows).collect();
    session.finish(&session.experiment(Vec::new(), rows))
}

/// The baselines that have no seed.
fn without_network(session: &ExperimentSession) -> CliResult<Vec<SettingResult>> {
    let row = |b: decalign::baseline::Baseline| {
        let test = MetricValues::from(&b.test);
        let run = SeedResult::new(session.config.seed, MetricValues::default(), test);
        SettingResult::new(b.name, "without a network", Map::new(), vec![run])
    };
    let all = baselines(&session.config, &session.data)?;
    Ok(all.into_iter().map(row).collect())
}
