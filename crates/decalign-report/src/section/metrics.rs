//! Metrics of runs, with intervals.

use decalign::metrics::{Bootstrap, Interval};

use crate::chart::{Cloud, Dot, Span, intervals, points};
use crate::figure::Figure;
use crate::run::Run;
use crate::statistics::mean_and_deviation;
use crate::table::Table;

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
            table.push(vec![
                run.name.as_str().into(),
                (*metric).into(),
                mean.into(),
                deviation.into(),
                interval.low.into(),
                interval.high.into(),
                run.seeds.len().into(),
            ]);
        }
        all.push((run.name.clone(), found));
    }
    (table, all)
}

/// Accuracies and correlations of one run with their intervals.
pub(super) fn spans(run: &str, found: &[(&'static str, Interval)]) -> Option<Figure> {
    let mut data = Table::new(["metric", "value", "from", "to"]);
    let mut spans = Vec::new();
    let share = |metric: &str| !matches!(metric, "MAE" | "RMSE");
    for (metric, i) in found.iter().filter(|(metric, _)| share(metric)) {
        let (value, low, high) = (i.estimate, i.low, i.high);
        data.push(vec![
            (*metric).into(),
            value.into(),
            low.into(),
            high.into(),
        ]);
        spans.push(Span {
            name: (*metric).to_owned(),
            value,
            ends: Some((low, high)),
            single: Vec::new(),
        });
    }
    let drawing = intervals(&format!("figures of {run}"), "test part", &spans, None);
    (!spans.is_empty()).then(|| {
        Figure::new(
            &format!("metrics-{run}"),
            "figures with intervals",
            drawing,
            data,
        )
        .caption("Means over seeds; whiskers are 95 % bootstrap intervals over the test part, and over seeds where there are several.")
    })
}

/// The first two metrics of all runs against each other; the area of a point shows the number of parameters.
pub(super) fn bubbles(runs: &[Run], found: &[(String, ReportInput)]) -> Option<Figure> {
    // One bubble would be compared with nothing.
    let (_, first) = found.first().filter(|_| found.len() > 1)?;
    let (x, y) = (first.first()?.0, first.get(1)?.0);
    let mut data = Table::new(["run", x, y, "parameters"]);
    let mut dots = Vec::new();
    for (run, (name, intervals)) in runs.iter().zip(found) {
        let named = |metric: &str| intervals.iter().find(|(known, _)| *known == metric);
        let (Some((_, a)), Some((_, b))) = (named(x), named(y)) else {
            continue;
        };
        let weights = run.seeds[0].checkpoint.weights.values();
        let parameters: usize = weights.map(|w| w.elem_count()).sum();
        data.push(vec![
            name.as_str().into(),
            a.estimate.into(),
            b.estimate.into(),
            parameters.into(),
        ]);
        dots.push(Dot {
            x: a.estimate,
            y: b.estimate,
            radius: super::experiment::radius(parameters),
            name: name.clone(),
        });
    }
    let title = format!("{x} against {y}");
    let cloud = Cloud {
        name: "runs".to_owned(),
        dots,
    };
    let drawing = points(&title, [x, y], &[cloud]);
    let caption = "Test part, means over seeds. The area grows with the number of parameters.";
    Some(Figure::new("bubbles-runs", &title, drawing, data).caption(caption))
}
