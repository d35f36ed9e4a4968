//! `decalign baselines`.

use decalign::baseline::{BaselineOutcome, BaselineSettings, BaselineTrainer, Method, baselines};
use decalign::train::{ResumePolicy, Silent};
use decalign_report::{Figures, Kind, Row, Single, class_accuracy};
use serde_json::{Map, Value, json};

use crate::args::Baselines;
use crate::experiment::Session;
use crate::jobs::on_all_threads;
use crate::output::Done;

pub(crate) fn run(arguments: Baselines) -> Done {
    let session = Session::open(
        &arguments.settings,
        &arguments.experiment,
        "baselines",
        Some(&[1, 2, 3]),
    )?;
    session.begin()?;
    let mut rows = simple(&session)?;
    rows.extend(networks(&session, arguments.settings.epochs)?);
    if !arguments.without_model {
        let settings = [("DecAlign".to_owned(), session.config.clone())];
        let finished = session.train(&settings)?;
        rows.push(Row {
            name: "DecAlign".to_owned(),
            group: "model".to_owned(),
            settings: Map::new(),
            runs: finished.into_iter().flatten().map(|f| f.single).collect(),
            differences: Vec::new(),
        });
    }
    session.finish(&session.experiment(Kind::Baselines, Vec::new(), rows))
}

/// Those that need no seed.
fn simple(session: &Session) -> Done<Vec<Row>> {
    let row = |b: decalign::baseline::Baseline| Row {
        name: b.name,
        group: "without a network".to_owned(),
        settings: Map::new(),
        runs: vec![Single {
            seed: session.config.seed,
            valid: Figures::default(),
            test: Figures::from(&b.test),
            class_accuracy: Vec::new(),
            parameters: 0,
            seconds: 0.0,
            folder: None,
        }],
        differences: Vec::new(),
    };
    let simple = baselines(&session.config, &session.data)?;
    Ok(simple.into_iter().map(row).collect())
}

/// Every network with every seed, one row a network.
fn networks(session: &Session, epochs: Option<usize>) -> Done<Vec<Row>> {
    let (data, device) = (&session.data, &session.device);
    let mut settings = BaselineSettings::default();
    settings.epochs = epochs.unwrap_or(settings.epochs);
    let trainer = BaselineTrainer::new(&settings, &session.config, data, device)?;
    let methods = Method::ALL;
    let seeds = session.seeds.len();
    let job = |i: usize| -> Done<BaselineOutcome> {
        let (method, seed) = (methods[i / seeds], session.seeds[i % seeds]);
        let trainer = trainer.clone().with_seed(seed);
        let outcome = trainer.run(method, &ResumePolicy::none(), &mut Silent)?;
        let figure = outcome.test.iter().next();
        let figure = figure.map_or_else(String::new, |(n, v)| format!("{n} {v:.4}, "));
        eprintln!(
            "{}, seed {seed}: {figure}{:.1} s",
            method.name(),
            outcome.seconds
        );
        Ok(outcome)
    };
    let outcomes = on_all_threads(methods.len() * seeds, session.threads, device, job)?;
    let [_, _, test] = trainer.rows();
    let single = |(outcome, seed): (&BaselineOutcome, &u64)| Single {
        seed: *seed,
        valid: Figures::from(&outcome.valid),
        test: Figures::from(&outcome.test),
        class_accuracy: class_accuracy(data, test, outcome.test_predictions.all_scores()),
        parameters: outcome.parameters,
        seconds: outcome.seconds,
        folder: None,
    };
    let row = |(method, outcomes): (&Method, &[BaselineOutcome])| Row {
        name: method.name().to_owned(),
        group: "network".to_owned(),
        settings: match json!(settings) {
            Value::Object(settings) => settings,
            _ => Map::new(),
        },
        runs: outcomes.iter().zip(&session.seeds).map(single).collect(),
        differences: Vec::new(),
    };
    Ok(methods
        .iter()
        .zip(outcomes.chunks(seeds))
        .map(row)
        .collect())
}
