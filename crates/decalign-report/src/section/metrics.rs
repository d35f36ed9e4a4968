//! Metrics of runs, with intervals.

use decalign::metrics::{Bootstrap, Interval};

use super::common::{Bubble, bubbles, interval_figure};
use crate::chart::Span;
use crate::figure::Figure;
use crate::run::Run;
use crate::statistics::mean_and_deviation;
use crate::table::{Table, cells};

/// Metrics and their intervals by name.
pub(super) type ReportInput = Vec<(&'static str, Interval)>;

/// Every metric of every run: mean over seeds, deviation, interval.
pub(super) fn table(runs: &[Run]) -> (Table, Vec<(String, ReportInput)>) {
    let mut table = Table::new(["run", "metric", "mean", "deviation", "from", "to", "seeds"]);
    let mut all = Vec::new();
    for run in runs {
        let found = match run.predictions().as_slice() {
            [one] => Bootstrap::default().metrics(run.benchmark, one, &run.labels),
            all => Bootstrap::default().metrics_of_runs(run.benchmark, all, &run.labels),
        };
        let each: Vec<_> = run
            .seeds
            .iter()
            .map(|s| run.benchmark.evaluate(&s.scores, &run.labels))
            .collect();
        for (metric, interval) in &found {
            let values: Vec<f64> = each.iter().filter_map(|m| m.get(metric)).collect();
            let (mean, deviation) = mean_and_deviation(&values);
            let Interval { low, high, .. } = *interval;
            let seeds = run.seeds.len();
            table.push(cells![
                &run.name, *metric, mean, deviation, low, high, seeds
            ]);
        }
        all.push((run.name.clone(), found));
    }
    (table, all)
}

/// Accuracies and correlations of one run with their intervals.
pub(super) fn spans(run: &str, found: &[(&'static str, Interval)]) -> Option<Figure> {
    let share = |(metric, _): &&(&str, Interval)| !matches!(*metric, "MAE" | "RMSE");
    let span = |(metric, i): &(&'static str, Interval)| {
        Span::new(*metric, i.estimate, Some((i.low, i.high)))
    };
    let spans: Vec<Span> = found.iter().filter(share).map(span).collect();
    let texts = ["figures with intervals", "test part"];
    let columns = ["metric", "value", "from", "to"];
    let figure = interval_figure(&format!("metrics-{run}"), texts, columns, &spans, None)?;
    Some(figure.caption(
        "Means over seeds; whiskers are 95 % bootstrap intervals over the test part, and over seeds where there are several.",
    ))
}

/// The first two metrics of all runs against each other; the area of a point shows the number of parameters.
pub(super) fn bubble_chart(runs: &[Run], found: &[(String, ReportInput)]) -> Option<Figure> {
    // One bubble would be compared with nothing.
    let (_, first) = found.first().filter(|_| found.len() > 1)?;
    let (x, y) = (first.first()?.0, first.get(1)?.0);
    let bubble = |(run, (name, intervals)): (&Run, &(String, ReportInput))| {
        let named = |metric: &str| intervals.iter().find(|(known, _)| *known == metric);
        let weights = run.seeds[0].checkpoint.weights.values();
        Some(Bubble {
            name: name.clone(),
            at: [named(x)?.1.estimate, named(y)?.1.estimate],
            parameters: weights.map(|w| w.elem_count()).sum(),
        })
    };
    let all = runs.iter().zip(found).filter_map(bubble).collect();
    let groups = vec![("runs".to_owned(), all)];
    Some(bubbles("bubbles-runs", "run", [x, y], groups))
}
