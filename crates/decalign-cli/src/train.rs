//! `decalign train`.

use std::path::Path;

use candle_core::Device;
use decalign::Dataset;
use decalign::baseline::{Baseline, baselines};
use decalign::config::Config;
use decalign::metrics::Metrics;
use decalign::train::{Outcome, Trainer};
use serde_json::{Map, Value, json};

use crate::args::Train;
use crate::output::{Done, Failure, print, print_json, to_json};
use crate::progress::Progress;
use crate::run_folder::RunFolder;
use crate::{source, table};

pub(crate) fn run(arguments: Train) -> Done {
    let device = source::machine(&arguments.machine)?;
    let config = config(&arguments)?;
    let data = source::dataset(
        arguments
            .dataset
            .as_deref()
            .unwrap_or(Path::new(source::EMBEDDED)),
    )?;
    let seeds = match arguments.seeds.as_slice() {
        [] => vec![config.seed],
        seeds => seeds.to_vec(),
    };
    if let Some(i) = (1..seeds.len()).find(|i| seeds[..*i].contains(&seeds[*i])) {
        return Err(Failure::bad_input(format!(
            "--seeds: {} is given twice",
            seeds[i]
        )));
    }
    // Everything that can be wrong with the input is found before a folder is made.
    Trainer::new(&config, &data, &device)?;
    let baselines = baselines(&config, &data)?;
    let folder = RunFolder::create(arguments.run_dir.as_deref(), &config.dataset_name)?;
    let mut outcomes = Vec::new();
    for seed in &seeds {
        let config = Config {
            seed: *seed,
            ..config.clone()
        };
        let place = if seeds.len() == 1 {
            None
        } else {
            Some(folder.seed(*seed)?)
        };
        let place = place.as_ref().unwrap_or(&folder);
        let outcome = train(&config, &data, &device, place)?;
        place.write(
            "metrics.json",
            &(to_json(&describe(&outcome, *seed))? + "\n"),
        )?;
        outcomes.push((*seed, outcome));
    }
    let summary = summarise(&outcomes, &baselines, &folder);
    if seeds.len() > 1 {
        folder.write("metrics.json", &(to_json(&summary)? + "\n"))?;
    }
    match arguments.json {
        true => print_json(&summary),
        false => print(&tabulate(&outcomes, &baselines, &folder)),
    }
}

/// Preset, file or defaults, then what the command line changes.
fn config(arguments: &Train) -> Done<Config> {
    let embedded = arguments
        .dataset
        .as_deref()
        .is_none_or(|p| p == Path::new(source::EMBEDDED));
    let mut config = match (&arguments.config, &arguments.preset) {
        (Some(path), _) => Config::open(path)?,
        (None, Some(name)) => Config::preset(name)?,
        (None, None) if embedded => Config::preset(source::EMBEDDED)?,
        (None, None) => {
            // A file named after a benchmark gets its figures.
            let stem = arguments.dataset.as_deref().and_then(Path::file_stem);
            let dataset_name = stem.map(|s| s.to_string_lossy().into_owned());
            let default = Config::default();
            Config {
                dataset_name: dataset_name.unwrap_or(default.dataset_name.clone()),
                ..default
            }
        }
    };
    for assignment in &arguments.set {
        config.set(assignment)?;
    }
    if !arguments.modalities.is_empty() {
        config.modalities = Some(arguments.modalities.clone());
    }
    config.split = arguments.split.clone().or(config.split);
    config.num_epochs = arguments.epochs.unwrap_or(config.num_epochs);
    config.batch_size = arguments.batch_size.unwrap_or(config.batch_size);
    config.learning_rate = arguments.learning_rate.unwrap_or(config.learning_rate);
    Ok(config)
}

fn train(config: &Config, data: &Dataset, device: &Device, folder: &RunFolder) -> Done<Outcome> {
    let trainer = Trainer::new(config, data, device)?;
    folder.write("config.json", &(trainer.config().to_json()? + "\n"))?;
    let file = folder.checkpoint();
    let mut progress = Progress::new(config.seed, config.num_epochs, folder.epochs_file()?);
    let outcome = trainer.run(Some(&file), &mut progress);
    drop(progress);
    outcome.map_err(|error| {
        let mut failure = Failure::from(error);
        if file.exists() {
            failure.message += &format!(" (the last good model is {})", file.display());
        }
        failure
    })
}

fn describe(outcome: &Outcome, seed: u64) -> Value {
    json!({
        "seed": seed,
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs.len(),
        "seconds": outcome.seconds,
        "parameters": outcome.checkpoint.weights.values().map(|w| w.elem_count()).sum::<usize>(),
        "valid": outcome.valid,
        "test": outcome.test,
    })
}

fn summarise(outcomes: &[(u64, Outcome)], baselines: &[Baseline], folder: &RunFolder) -> Value {
    let test: Map<String, Value> = statistics(outcomes)
        .into_iter()
        .map(|(name, mean, deviation)| (name, json!({ "mean": mean, "deviation": deviation })))
        .collect();
    let baselines: Map<String, Value> = baselines
        .iter()
        .map(|b| (b.name.clone(), json!(b.test)))
        .collect();
    json!({
        "folder": folder.path,
        "runs": outcomes.iter().map(|(seed, outcome)| describe(outcome, *seed)).collect::<Vec<_>>(),
        "test": test,
        "baselines": baselines,
    })
}

/// Name, mean and sample deviation over seeds (0 for one) of every figure on the test part.
fn statistics(outcomes: &[(u64, Outcome)]) -> Vec<(String, f64, f64)> {
    let n = outcomes.len() as f64;
    let Some((_, first)) = outcomes.first() else {
        return Vec::new();
    };
    let of = |name: &str| -> Vec<f64> {
        outcomes
            .iter()
            .filter_map(|(_, outcome)| outcome.test.get(name))
            .collect()
    };
    let statistic = |(name, _): (&'static str, f64)| {
        let values = of(name);
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        (name.to_owned(), mean, (squares / (n - 1.0).max(1.0)).sqrt())
    };
    first.test.iter().map(statistic).collect()
}

fn tabulate(outcomes: &[(u64, Outcome)], baselines: &[Baseline], folder: &RunFolder) -> String {
    let statistics = statistics(outcomes);
    let header = statistics.iter().map(|(name, ..)| name.clone()).collect();
    let cells = |m: &Metrics| {
        m.iter()
            .map(|(_, value)| format!("{value:.4}"))
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<(String, Vec<String>)> = baselines
        .iter()
        .map(|b| (b.name.clone(), cells(&b.test)))
        .collect();
    let several = outcomes.len() > 1;
    if several {
        rows.extend(
            outcomes
                .iter()
                .map(|(seed, o)| (format!("DecAlign, seed {seed}"), cells(&o.test))),
        );
    }
    let figures = statistics.iter().map(|(_, mean, _)| format!("{mean:.4}"));
    rows.push((
        if several {
            "DecAlign, mean"
        } else {
            "DecAlign"
        }
        .to_owned(),
        figures.collect(),
    ));
    if several {
        let deviations = statistics
            .iter()
            .map(|(.., deviation)| format!("{deviation:.4}"));
        rows.push(("deviation".to_owned(), deviations.collect()));
    }
    let seconds: f64 =
        outcomes.iter().map(|(_, o)| o.seconds).sum::<f64>() / outcomes.len().max(1) as f64;
    let each = if several { " a seed" } else { "" };
    format!(
        "\ntest part\n{}\ntrained in {seconds:.1} s{each}; results in {}\n",
        table::lines(header, rows),
        folder.path.display()
    )
}
