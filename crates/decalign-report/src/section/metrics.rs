//! Figures of runs, with intervals.

use crate::chart::{Cloud, Dot, Span, intervals, points};
use crate::figure::Figure;
use crate::run::Run;
use crate::statistics::{Interval, bootstrap, mean_and_deviation};
use crate::table::{Cell, Table};

/// How many times the test part is resampled.
const RESAMPLES: usize = 1000;

/// Every figure of every run: mean over seeds, deviation, interval.
pub(super) fn table(runs: &[Run]) -> (Table, Vec<(String, Vec<Interval>)>) {
    let mut table = Table::new(["run", "metric", "mean", "deviation", "from", "to", "seeds"]);
    let mut all = Vec::new();
    for run in runs {
        let found = bootstrap(
            run.benchmark,
            &run.labels,
            &run.predictions(),
            None,
            RESAMPLES,
            1,
        );
        let each: Vec<_> = run
            .seeds
            .iter()
            .map(|s| run.benchmark.evaluate(&s.scores, &run.labels))
            .collect();
        for interval in &found {
            let values: Vec<f64> = each
                .iter()
                .filter_map(|m| m.get(&interval.metric))
                .collect();
            let (mean, deviation) = mean_and_deviation(&values);
            table.push(vec![
                run.name.as_str().into(),
                interval.metric.as_str().into(),
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

/// Shares and correlations of one run with their intervals.
pub(super) fn spans(run: &str, found: &[Interval]) -> Option<Figure> {
    let mut data = Table::new(["metric", "value", "from", "to"]);
    let mut spans = Vec::new();
    for i in found
        .iter()
        .filter(|i| !matches!(i.metric.as_str(), "MAE" | "RMSE"))
    {
        data.push(vec![
            i.metric.as_str().into(),
            i.value.into(),
            i.low.into(),
            i.high.into(),
        ]);
        spans.push(Span {
            name: i.metric.clone(),
            value: i.value,
            ends: Some((i.low, i.high)),
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
        .caption("Means over seeds; whiskers hold 95 % of bootstrap resamples of the test part.")
    })
}

/// The two leading figures of all runs against one another, as large as the models.
pub(super) fn bubbles(runs: &[Run], found: &[(String, Vec<Interval>)]) -> Option<Figure> {
    // One bubble would be compared with nothing.
    let (_, first) = found.first().filter(|_| found.len() > 1)?;
    let (x, y) = (first.first()?.metric.clone(), first.get(1)?.metric.clone());
    let mut data = Table::new([
        "run".to_owned(),
        x.clone(),
        y.clone(),
        "parameters".to_owned(),
    ]);
    let mut dots = Vec::new();
    for (run, (name, intervals)) in runs.iter().zip(found) {
        let value = |metric: &str| {
            intervals
                .iter()
                .find(|i| i.metric == *metric)
                .map(|i| i.value)
        };
        let (Some(a), Some(b)) = (value(&x), value(&y)) else {
            continue;
        };
        let weights = run.seeds[0].checkpoint.weights.values();
        let parameters: usize = weights.map(|w| w.elem_count()).sum();
        data.push(vec![
            name.as_str().into(),
            a.into(),
            b.into(),
            Cell::from(parameters),
        ]);
        let radius = super::experiment::radius(parameters);
        dots.push(Dot {
            x: a,
            y: b,
            radius,
            name: name.clone(),
        });
    }
    let title = format!("{x} against {y}");
    let drawing = points(
        &title,
        [&x, &y],
        &[Cloud {
            name: "runs".to_owned(),
            dots,
        }],
    );
    let caption = "Test part, means over seeds. The area grows with the number of parameters.";
    Some(Figure::new("bubbles-runs", &title, drawing, data).caption(caption))
}
