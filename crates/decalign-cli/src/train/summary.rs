//! The results of training over seeds, beside the baselines that need no network.

use std::path::Path;

use decalign::baseline::Baseline;
use decalign::metrics::{Benchmark, Bootstrap, Metrics};
use decalign_report::mean_and_deviation;
use serde_json::{Map, Value, json};

use crate::run::TrainedRun;
use crate::table;

/// A metric of the test part over seeds.
struct Statistic {
    name: &'static str,
    mean: f64,
    /// Sample deviation; 0 for one seed.
    deviation: f64,
    low: f64,
    high: f64,
}

/// The runs of a command, and the baselines.
pub(super) struct Summary<'a> {
    pub(super) runs: &'a [TrainedRun],
    pub(super) baselines: &'a [Baseline],
    pub(super) folder: &'a Path,
    pub(super) benchmark: Benchmark,
}

impl Summary<'_> {
    pub(super) fn to_value(&self) -> Value {
        let test: Map<String, Value> = self
            .statistics()
            .into_iter()
            .map(|s| {
                let figures = json!({
                    "mean": s.mean, "deviation": s.deviation, "low": s.low, "high": s.high,
                });
                (s.name.to_owned(), figures)
            })
            .collect();
        let baselines: Map<String, Value> = (self.baselines.iter())
            .map(|b| (b.name.clone(), json!(b.test)))
            .collect();
        json!({
            "folder": self.folder,
            "runs": self.runs.iter().map(|run| &run.metrics).collect::<Vec<_>>(),
            "test": test,
            "baselines": baselines,
        })
    }

    fn statistics(&self) -> Vec<Statistic> {
        let runs: Vec<Vec<f32>> = self
            .runs
            .iter()
            .map(|run| run.predictions.scores.clone())
            .collect();
        let Some(TrainedRun { predictions, .. }) = self.runs.first() else {
            return Vec::new();
        };
        let (bootstrap, labels) = (Bootstrap::default(), &predictions.labels);
        let intervals = match &runs[..] {
            [run] => bootstrap.metrics(self.benchmark, run, labels),
            runs => bootstrap.metrics_of_runs(self.benchmark, runs, labels),
        };
        let statistic = |(name, interval): (&'static str, decalign::metrics::Interval)| {
            let values: Vec<f64> = self
                .runs
                .iter()
                .filter_map(|run| run.metrics.test.get(name))
                .collect();
            let (mean, deviation) = mean_and_deviation(&values);
            Statistic {
                name,
                mean,
                deviation,
                low: interval.low,
                high: interval.high,
            }
        };
        intervals.into_iter().map(statistic).collect()
    }

    pub(super) fn to_text(&self) -> String {
        let statistics = self.statistics();
        let header = statistics.iter().map(|s| s.name.to_owned()).collect();
        let cells = |m: &Metrics| {
            m.iter()
                .map(|(_, value)| format!("{value:.4}"))
                .collect::<Vec<_>>()
        };
        let mut rows: Vec<(String, Vec<String>)> = (self.baselines.iter())
            .map(|b| (b.name.clone(), cells(&b.test)))
            .collect();
        let several = self.runs.len() > 1;
        if several {
            let each = |run: &TrainedRun| {
                let name = format!("DecAlign, seed {}", run.metrics.seed);
                (name, cells(&run.metrics.test))
            };
            rows.extend(self.runs.iter().map(each));
        }
        let mut row = |name: &str, of: fn(&Statistic) -> f64| {
            let cells = statistics.iter().map(|s| format!("{:.4}", of(s)));
            rows.push((name.to_owned(), cells.collect()));
        };
        row(
            if several {
                "DecAlign, mean"
            } else {
                "DecAlign"
            },
            |s| s.mean,
        );
        row("  95 % from", |s| s.low);
        row("  95 % to", |s| s.high);
        if several {
            row("deviation", |s| s.deviation);
        }
        let seconds: f64 = self.runs.iter().map(|run| run.metrics.seconds).sum();
        let seconds = seconds / self.runs.len().max(1) as f64;
        format!(
            "\ntest part\n{}\ntrained in {seconds:.1} s{}; results in {}\n",
            table::lines(header, rows),
            if several { " a seed" } else { "" },
            self.folder.display()
        )
    }
}
