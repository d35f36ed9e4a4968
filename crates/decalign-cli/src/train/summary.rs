//! What training came to: over seeds, beside what needs no model.

use std::path::Path;

use decalign::baseline::Baseline;
use decalign::metrics::{Benchmark, Bootstrap, Metrics};
use serde_json::{Map, Value, json};

use super::one::Ended;
use crate::table;

/// A figure of the test part over seeds.
struct Statistic {
    name: &'static str,
    mean: f64,
    /// Sample deviation; 0 for one seed.
    deviation: f64,
    low: f64,
    high: f64,
}

/// The runs of a command, and what they are compared with.
pub(super) struct Summary<'a> {
    pub(super) ended: &'a [Ended],
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
            "runs": self.ended.iter().map(|run| &run.figures).collect::<Vec<_>>(),
            "test": test,
            "baselines": baselines,
        })
    }

    fn statistics(&self) -> Vec<Statistic> {
        let runs: Vec<Vec<f32>> = self
            .ended
            .iter()
            .map(|run| run.predictions.scores.clone())
            .collect();
        let Some(Ended { predictions, .. }) = self.ended.first() else {
            return Vec::new();
        };
        let (bootstrap, labels) = (Bootstrap::default(), &predictions.labels);
        let intervals = match &runs[..] {
            [run] => bootstrap.metrics(self.benchmark, run, labels),
            runs => bootstrap.metrics_of_runs(self.benchmark, runs, labels),
        };
        let n = runs.len() as f64;
        let statistic = |(name, interval): (&'static str, decalign::metrics::Interval)| {
            let values: Vec<f64> = self
                .ended
                .iter()
                .filter_map(|run| run.figures.test.get(name))
                .collect();
            let mean = values.iter().sum::<f64>() / n;
            let squares = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
            Statistic {
                name,
                mean,
                deviation: (squares / (n - 1.0).max(1.0)).sqrt(),
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
        let several = self.ended.len() > 1;
        if several {
            let each = |run: &Ended| {
                let name = format!("DecAlign, seed {}", run.figures.seed);
                (name, cells(&run.figures.test))
            };
            rows.extend(self.ended.iter().map(each));
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
        let seconds: f64 = self.ended.iter().map(|run| run.figures.seconds).sum();
        let seconds = seconds / self.ended.len().max(1) as f64;
        format!(
            "\ntest part\n{}\ntrained in {seconds:.1} s{}; results in {}\n",
            table::lines(header, rows),
            if several { " a seed" } else { "" },
            self.folder.display()
        )
    }
}
