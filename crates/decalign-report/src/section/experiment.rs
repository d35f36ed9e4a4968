//! Figures of ablations, sweeps and baselines.

use serde_json::Value;

use crate::chart::{Cloud, Dot, Heat, Series, Span, heat, intervals, points, radar};
use crate::experiment::{Experiment, ExperimentKind, SettingResult};
use crate::figure::Figure;
use crate::table::{Cell, Table};

/// The figures of an experiment, as far as it has their numbers.
pub fn figures_of(experiment: &Experiment) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    match experiment.kind {
        ExperimentKind::Ablation => {
            figures.extend(differences(experiment));
            figures.extend(class_radar(experiment));
            figures.extend(bubbles(experiment));
        }
        ExperimentKind::Baselines => {
            figures.extend(means(experiment));
            figures.extend(bubbles(experiment));
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
    let mut data = Table::new(["setting", "difference", "from", "to"]);
    let mut spans = Vec::new();
    for row in &experiment.rows {
        let Some(d) = row.difference(&metric) else {
            continue;
        };
        data.push(vec![
            row.name.as_str().into(),
            d.value.into(),
            d.low.into(),
            d.high.into(),
        ]);
        spans.push(Span {
            name: row.name.clone(),
            value: d.value,
            ends: Some((d.low, d.high)),
            single: Vec::new(),
        });
    }
    let full = &experiment.rows.first()?.name;
    let title = format!("{metric} without parts of the method");
    let axis = format!("{metric} minus that of {full}");
    let drawing = intervals(&title, &axis, &spans, Some(0.0));
    (!spans.is_empty()).then(|| {
        Figure::new("differences", &title, drawing, data).caption(
            "Mean over seeds; whiskers are 95 % intervals of a paired bootstrap over seeds and test samples. Left of the \
             dashed line the figure is smaller than the whole model's.",
        )
    })
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
        data.push(vec![
            row.name.as_str().into(),
            mean.into(),
            deviation.into(),
            row.runs.len().into(),
        ]);
        spans.push(Span {
            name: row.name.clone(),
            value: mean,
            ends: (row.runs.len() > 1).then_some((mean - deviation, mean + deviation)),
            single: row
                .runs
                .iter()
                .filter_map(|r| r.test.get(&metric))
                .collect(),
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
fn class_radar(experiment: &Experiment) -> Option<Figure> {
    let classes = &experiment.classes;
    if classes.len() < 3 || classes.len() > 24 {
        return None;
    }
    // One polygon more would hide the others.
    let shown = experiment.rows.iter().filter(|r| {
        r.runs
            .iter()
            .all(|s| s.class_accuracy.len() == classes.len())
    });
    let mut series = Vec::new();
    for row in shown.take(6) {
        let mean = |class: usize| {
            let sum: f64 = row.runs.iter().map(|r| r.class_accuracy[class]).sum();
            sum / row.runs.len().max(1) as f64
        };
        series.push(Series {
            name: row.name.clone(),
            points: (0..classes.len()).map(|c| (c as f64, mean(c))).collect(),
        });
    }
    let least = series
        .iter()
        .flat_map(|s| s.points.iter().map(|p| p.1))
        .fold(1.0, f64::min);
    let low = centre(least);
    let mut data = Table::new(
        std::iter::once("class".to_owned()).chain(series.iter().map(|s| s.name.clone())),
    );
    for (c, class) in classes.iter().enumerate() {
        let cells = series.iter().map(|s| Cell::from(s.points[c].1));
        data.push(
            std::iter::once(Cell::from(class.as_str()))
                .chain(cells)
                .collect(),
        );
    }
    let title = "accuracy by class";
    let drawing = radar(title, classes, &series, low);
    (!series.is_empty()).then(|| {
        Figure::new("classes", title, drawing, data).caption(format!(
            "Share of each class's samples that are right, mean over seeds. The centre is {low:.2}."
        ))
    })
}

/// The value at the centre of a radar: a round number below the least.
pub(super) fn centre(least: f64) -> f64 {
    let round = [0.9, 0.8, 0.6, 0.4, 0.2];
    round
        .into_iter()
        .find(|low| *low < least - 0.01)
        .unwrap_or(0.0)
}

/// Two metrics against each other; the area of a point shows the number of parameters.
fn bubbles(experiment: &Experiment) -> Option<Figure> {
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
    let mut data = Table::new(["model", x, y, "parameters"]);
    let mut clouds: Vec<Cloud> = Vec::new();
    for row in drawn(experiment) {
        let (Some((a, _)), Some((b, _))) = (row.test(x), row.test(y)) else {
            continue;
        };
        let parameters = row.runs.first().map_or(0, |r| r.parameters);
        data.push(vec![
            row.name.as_str().into(),
            a.into(),
            b.into(),
            parameters.into(),
        ]);
        let dot = Dot {
            x: a,
            y: b,
            radius: radius(parameters),
            name: row.name.clone(),
        };
        match clouds.iter_mut().find(|c| c.name == row.group) {
            Some(cloud) => cloud.dots.push(dot),
            None => clouds.push(Cloud {
                name: row.group.clone(),
                dots: vec![dot],
            }),
        }
    }
    let title = format!("{x} against {y}");
    let drawing = points(&title, [x, y], &clouds);
    (!clouds.is_empty()).then(|| {
        Figure::new("bubbles", &title, drawing, data)
            .caption("Test part, means over seeds. The area grows with the number of parameters.")
    })
}

/// The radius by the logarithm of the number of parameters, which differs by orders of magnitude.
pub(super) fn radius(parameters: usize) -> f64 {
    3.0 + 2.0 * ((parameters + 1) as f64).log10().max(0.0).sqrt() * 1.6
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
            data.push(vec![plain(a).into(), plain(b).into(), found.into()]);
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
        data.push(vec![row.name.as_str().into(), x.into(), y.into()]);
        dots.push(Dot {
            x,
            y,
            radius: 5.0,
            name: String::new(),
        });
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
