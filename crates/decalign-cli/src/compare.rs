//! `decalign compare`.

use std::path::Path;

use decalign::metrics::{Benchmark, Bootstrap, Difference, Paired};
use decalign_report::run_folder::{
    PredictionTable, RUN, RunRecord, RunStatus, TEST_PREDICTIONS, seed_folder,
};
use serde_json::{Map, Value, json};

use crate::args::Compare;
use crate::output::{CliResult, Failure, print, print_json};
use crate::table;

/// One of the two runs: one seed, or several.
struct ComparedRun {
    record: RunRecord,
    seeds: Vec<u64>,
    runs: Vec<PredictionTable>,
}

pub(crate) fn run(arguments: &Compare) -> CliResult {
    if !(100..=1_000_000).contains(&arguments.replicates) {
        let message = format!(
            "--replicates {}: expected 100 to 1000000",
            arguments.replicates
        );
        return Err(Failure::bad_input(message));
    }
    let first = ComparedRun::open(&arguments.first)?;
    let second = ComparedRun::open(&arguments.second)?;
    let benchmark = check(arguments, &first, &second)?;
    let mut bootstrap = Bootstrap::default();
    bootstrap.replicates = arguments.replicates;
    bootstrap.seed = arguments.seed;
    let scores = |side: &ComparedRun| {
        side.runs
            .iter()
            .map(|r| r.scores.clone())
            .collect::<Vec<_>>()
    };
    let predictions = [&first, &second].map(scores);
    let pair = Paired::new(&predictions[0], &predictions[1], &first.runs[0].labels)
        .same_seeds(first.seeds == second.seeds);
    let differences = bootstrap.compare(benchmark, &pair);
    match arguments.json {
        true => print_json(&describe(
            arguments,
            [&first, &second],
            &bootstrap,
            &differences,
        )),
        false => print(&tabulate(arguments, [&first, &second], &differences)),
    }
}

impl ComparedRun {
    fn open(folder: &Path) -> CliResult<Self> {
        let record = RunRecord::open(folder)?;
        if let Some(kind) = record.experiment {
            let message = format!(
                "{}: holds the runs of decalign {}; compare two of the folders in it",
                folder.display(),
                kind.command()
            );
            return Err(Failure::bad_input(message));
        }
        if record.status != RunStatus::Done {
            let message = format!(
                "{}: the run is not done; finish it with: decalign train --resume {}",
                folder.join(RUN).display(),
                folder.display()
            );
            return Err(Failure::bad_input(message));
        }
        let seeds = record.seeds();
        let place = |seed: &u64| match record.seeds {
            Some(_) => seed_folder(folder, *seed).join(TEST_PREDICTIONS),
            None => folder.join(TEST_PREDICTIONS),
        };
        let read = |seed: &u64| Ok(PredictionTable::open(&place(seed), &record.classes)?);
        let runs = seeds.iter().map(read).collect::<CliResult<Vec<_>>>()?;
        if runs.iter().all(|run| run.labels.is_empty()) {
            let message = format!("{}: holds no predictions", folder.display());
            return Err(Failure::bad_input(message));
        }
        Ok(Self {
            record,
            seeds,
            runs,
        })
    }
}

/// Fails where the two cannot be compared.
fn check(arguments: &Compare, first: &ComparedRun, second: &ComparedRun) -> CliResult<Benchmark> {
    let names = [&arguments.first, &arguments.second].map(|path| path.display());
    let bad = |what: String| {
        let message = format!("{} and {}: {what}", names[0], names[1]);
        Failure::bad_input(message)
    };
    let benchmarks = [first, second].map(|side| side.record.benchmark.as_str());
    if benchmarks[0] != benchmarks[1] {
        let [a, b] = benchmarks;
        return Err(bad(format!("judged by different figures, {a} and {b}")));
    }
    let known = Benchmark::from_name(benchmarks[0]);
    let benchmark = known.ok_or_else(|| bad(format!("no benchmark is named {}", benchmarks[0])))?;
    if first.record.classes != second.record.classes {
        return Err(bad("their classes differ".to_owned()));
    }
    let same = |run: &PredictionTable| {
        let reference = &first.runs[0];
        run.samples == reference.samples && run.labels == reference.labels
    };
    match first.runs.iter().chain(&second.runs).all(same) {
        true => Ok(benchmark),
        false => Err(bad(
            "their test samples or labels differ; a comparison needs the same data and split"
                .to_owned(),
        )),
    }
}

fn describe(
    arguments: &Compare,
    sides: [&ComparedRun; 2],
    bootstrap: &Bootstrap,
    differences: &[(&str, Difference)],
) -> Value {
    let each: Map<String, Value> = (differences.iter())
        .map(|(name, d)| {
            let value = json!({
                "first": d.first,
                "second": d.second,
                "difference": d.difference.estimate,
                "low": d.difference.low,
                "high": d.difference.high,
                "p_value": d.p_value,
            });
            ((*name).to_owned(), value)
        })
        .collect();
    let several = sides.iter().any(|side| side.seeds.len() > 1);
    json!({
        "first": { "folder": arguments.first, "seeds": sides[0].seeds },
        "second": { "folder": arguments.second, "seeds": sides[1].seeds },
        "samples": sides[0].runs[0].labels.len(),
        "level": bootstrap.level,
        "method": if several { json!("percentile") } else { json!(bootstrap.method) },
        "replicates": bootstrap.replicates,
        "seed": bootstrap.seed,
        "metrics": each,
    })
}

fn tabulate(
    arguments: &Compare,
    sides: [&ComparedRun; 2],
    differences: &[(&str, Difference)],
) -> String {
    let header = ["first", "second", "difference", "95 % from", "95 % to", "p"];
    let row = |(name, d): &(&str, Difference)| {
        let cells = vec![
            format!("{:.4}", d.first),
            format!("{:.4}", d.second),
            format!("{:+.4}", d.difference.estimate),
            format!("{:+.4}", d.difference.low),
            format!("{:+.4}", d.difference.high),
            format!("{:.4}", d.p_value),
        ];
        ((*name).to_owned(), cells)
    };
    let seeds = |side: &ComparedRun| match side.seeds.len() {
        1 => format!("seed {}", side.seeds[0]),
        n => format!("{n} seeds"),
    };
    format!(
        "first:  {}, {}\nsecond: {}, {}\n{} test samples\n\n{}",
        arguments.first.display(),
        seeds(sides[0]),
        arguments.second.display(),
        seeds(sides[1]),
        sides[0].runs[0].labels.len(),
        table::lines(
            header.map(str::to_owned).to_vec(),
            differences.iter().map(row).collect()
        )
    )
}
