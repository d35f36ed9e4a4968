//! Figures of ablations, sweeps and baselines.

use serde_json::Value;

use super::common::{Bubble, RADAR, bubbles, class_radar, interval_figure};
use crate::chart::{Cloud, Dot, Heat, Series, Span, heat, intervals, points};
use crate::experiment::{Experiment, ExperimentKind, SeedResult, SettingResult};
use crate::figure::Figure;
use crate::table::{Table, cells};

/// The figures of an experiment, as far as it has their numbers.
pub fn figures_of(experiment: &Experiment) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    match experiment.kind {
        ExperimentKind::Ablation => {
            figures.extend(differences(experiment));
            figures.extend(classes(experiment));
            figures.extend(bubble_chart(experiment));
        }
        ExperimentKind::Baselines => {
            figures.extend(means(experiment));
            figures.extend(bubble_chart(experiment));
        }
        ExperimentKind::Sweep if experiment.keys.len() == 2 => figures.extend(maps(experiment)),
        ExperimentKind::Sweep => figures.extend(
            experiment
                .keys
                .iter()
                .filter_map(|key| against_key(experiment, key)),
        ),
    }
    figures
}

/// The effect of each component: the difference of the first metric to the whole model.
fn differences(experiment: &Experiment) -> Option<Figure> {
    let metric = experiment.metrics().into_iter().next()?;
    let span = |row: &SettingResult| {
        let d = row.difference(&metric)?;
        Some(Span::new(&row.name, d.value, Some((d.low, d.high))))
    };
    let spans: Vec<Span> = experiment.rows.iter().filter_map(span).collect();
    let title = format!("{metric} without parts of the method");
    let axis = format!("{metric} minus that of {}", experiment.rows.first()?.name);
    let columns = ["setting", "difference", "from", "to"];
    let figure = interval_figure("differences", [&title, &axis], columns, &spans, Some(0.0))?;
    Some(figure.caption(
        "Mean over seeds; whiskers are 95 % intervals of a paired bootstrap over seeds and test samples. Left of the \
         dashed line the figure is smaller than the whole model's.",
    ))
}

/// The rows in figures: baselines without features are so far off that they would hide all differences.
fn drawn(experiment: &Experiment) -> impl Iterator<Item = &SettingResult> {
    let featureless =
        |row: &&SettingResult| !["majority class", "median"].contains(&row.name.as_str());
    experiment.rows.iter().filter(featureless)
}

/// The mean over seeds of the first metric, and every seed.
fn means(experiment: &Experiment) -> Option<Figure> {
    let metric = experiment.metrics().into_iter().next()?;
    let mut data = Table::new(["method", "mean", "deviation", "seeds"]);
    let mut spans = Vec::new();
    for row in drawn(experiment) {
        let Some((mean, deviation)) = row.test(&metric) else {
            continue;
        };
        data.push(cells![&row.name, mean, deviation, row.runs.len()]);
        let ends = (row.runs.len() > 1).then_some((mean - deviation, mean + deviation));
        let single = row.runs.iter().filter_map(|r| r.test.get(&metric));
        spans.push(Span {
            single: single.collect(),
            ..Span::new(&row.name, mean, ends)
        });
    }
    let title = format!("{metric} of all methods");
    let drawing = intervals(&title, &format!("{metric}, test part"), &spans, None);
    (!spans.is_empty()).then(|| {
        Figure::new("methods", &title, drawing, data)
            .caption("Mean over seeds and one sample deviation; grey dots are seeds. What uses no feature is in the table alone.")
    })
}

/// The accuracy of every class.
fn classes(experiment: &Experiment) -> Option<Figure> {
    let classes = &experiment.classes;
    if !RADAR.contains(&classes.len()) {
        return None;
    }
    let known = |run: &SeedResult| run.class_accuracy.len() == classes.len();
    let shown = experiment.rows.iter().filter(|r| r.runs.iter().all(known));
    let series = shown.take(6).map(|row| {
        let mean = |class: usize| {
            let sum: f64 = row.runs.iter().map(|r| r.class_accuracy[class]).sum();
            sum / row.runs.len().max(1) as f64
        };
        Series {
            name: row.name.clone(),
            points: (0..classes.len()).map(|c| (c as f64, mean(c))).collect(),
        }
    });
    class_radar("classes", classes, &series.collect::<Vec<_>>())
}

/// Two metrics against each other, by group of settings.
fn bubble_chart(experiment: &Experiment) -> Option<Figure> {
    let metrics = experiment.metrics();
    let has = |name: &str| metrics.iter().any(|m| m == name);
    let pairs = [
        ("Acc_2", "F1_score"),
        ("Mult_acc_2", "F1_score"),
        ("WAcc", "WAF1"),
        ("Acc", "F1_score"),
        ("Acc_3", "F1_score_3"),
        ("MAE", "Corr"),
    ];
    let (x, y) = pairs.into_iter().find(|(x, y)| has(x) && has(y))?;
    let mut groups: Vec<(String, Vec<Bubble>)> = Vec::new();
    for row in drawn(experiment) {
        let (Some((a, _)), Some((b, _))) = (row.test(x), row.test(y)) else {
            continue;
        };
        let bubble = Bubble {
            name: row.name.clone(),
            at: [a, b],
            parameters: row.runs.first().map_or(0, |r| r.parameters),
        };
        match groups.iter_mut().find(|(name, _)| *name == row.group) {
            Some((_, bubbles)) => bubbles.push(bubble),
            None => groups.push((row.group.clone(), vec![bubble])),
        }
    }
    (!groups.is_empty()).then(|| bubbles("bubbles", "model", [x, y], groups))
}

/// Both figures of the choice, on validation and on test, over two keys.
fn maps(experiment: &Experiment) -> Vec<Figure> {
    let metric = experiment.metrics().into_iter().next().unwrap_or_default();
    let valid = |row: &SettingResult| row.valid(&experiment.selection).map(|v| v.0);
    let test = |row: &SettingResult| row.test(&metric).map(|v| v.0);
    let (a, b) = (
        format!("test {metric}"),
        format!("valid {}", experiment.selection),
    );
    [
        map(experiment, "map-test", &a, &test),
        map(experiment, "map-valid", &b, &valid),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn map(
    experiment: &Experiment,
    file: &str,
    metric: &str,
    value: &dyn Fn(&SettingResult) -> Option<f64>,
) -> Option<Figure> {
    let [first, second] = experiment.keys.as_slice() else {
        return None;
    };
    let (rows, columns) = (values(experiment, first), values(experiment, second));
    if rows.len() * columns.len() > 900 {
        return None;
    }
    let mut data = Table::new([first.as_str(), second, metric]);
    let mut cells = Vec::new();
    for a in &rows {
        for b in &columns {
            let here = |row: &&SettingResult| {
                row.settings.get(first) == Some(a) && row.settings.get(second) == Some(b)
            };
            let found = experiment.rows.iter().find(here).and_then(value);
            data.push(cells![plain(a), plain(b), found]);
            cells.push(found);
        }
    }
    let title = format!("{metric} over {first} and {second}");
    let drawing = heat(
        &title,
        &Heat {
            rows: rows.iter().map(plain).collect(),
            columns: columns.iter().map(plain).collect(),
            values: cells,
            names: [first.clone(), second.clone()],
            by_row: false,
        },
    );
    let caption = "Mean over seeds; darker is larger.";
    Some(Figure::new(file, &title, drawing, data).caption(caption))
}

/// The values of a key, numbers in order.
fn values(experiment: &Experiment, key: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for value in experiment.rows.iter().filter_map(|r| r.settings.get(key)) {
        if !all.contains(value) {
            all.push(value.clone());
        }
    }
    all.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => plain(a).cmp(&plain(b)),
    });
    all
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The first metric over one key.
fn against_key(experiment: &Experiment, key: &str) -> Option<Figure> {
    let metric = experiment.metrics().into_iter().next()?;
    let mut data = Table::new(["setting", key, metric.as_str()]);
    let mut dots = Vec::new();
    for row in &experiment.rows {
        let (Some(x), Some((y, _))) = (
            row.settings.get(key).and_then(Value::as_f64),
            row.test(&metric),
        ) else {
            continue;
        };
        data.push(cells![&row.name, x, y]);
        dots.push(Dot::new([x, y], 5.0));
    }
    let title = format!("test {metric} over {key}");
    let cloud = Cloud {
        name: "settings".to_owned(),
        dots,
    };
    let drawing = points(&title, [key, &metric], std::slice::from_ref(&cloud));
    (!cloud.dots.is_empty()).then(|| {
        Figure::new(&format!("key-{key}"), &title, drawing, data)
            .caption("One point a setting, mean over seeds.")
    })
}
