//! Experiments: the results of several settings with several seeds.

use decalign::metrics::Interval;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::statistics::mean_and_deviation;
use crate::table::{Cell, Table};

/// The kind of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExperimentKind {
    /// The whole model, and the model without parts of it.
    Ablation,
    /// Values of configuration keys.
    Sweep,
    /// The model beside other methods.
    Baselines,
}

/// Values of metrics by name, in the order of display.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricValues(pub Vec<(String, f64)>);

impl ExperimentKind {
    /// The name in folders, such as `ablation`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ablation => "ablation",
            Self::Sweep => "sweep",
            Self::Baselines => "baselines",
        }
    }

    /// The command of the program.
    pub fn command(self) -> &'static str {
        match self {
            Self::Ablation => "ablate",
            other => other.name(),
        }
    }
}

impl MetricValues {
    /// The value of a metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

impl From<&decalign::metrics::Metrics> for MetricValues {
    fn from(metrics: &decalign::metrics::Metrics) -> Self {
        Self(metrics.iter().map(|(n, v)| (n.to_owned(), v)).collect())
    }
}

impl Serialize for MetricValues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for MetricValues {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        // A figure that is not finite is written as null.
        let figure = |(name, v): (String, Value)| (name, v.as_f64().unwrap_or(f64::NAN));
        Ok(Self(map.into_iter().map(figure).collect()))
    }
}

/// The result of one seed of a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Metrics of the validation part, and `loss` where it is known.
    pub valid: MetricValues,
    /// Metrics of the test part.
    pub test: MetricValues,
    /// The accuracy of every class, in classification.
    pub class_accuracy: Vec<f64>,
    /// The number of parameters.
    pub parameters: usize,
    /// Wall time of training.
    pub seconds: f64,
    /// The folder of the run inside the experiment's folder, where there is one.
    pub folder: Option<String>,
}

/// The results of one setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingResult {
    /// Its name in tables.
    pub name: String,
    /// Its group: "full", "table 3", "table 4", ...
    pub group: String,
    /// The keys that it changes, and their values.
    pub settings: Map<String, Value>,
    /// The results of all seeds.
    pub runs: Vec<SeedResult>,
    /// Difference of every figure to the first row, with a paired bootstrap interval.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub differences: Vec<Difference>,
}

/// The difference of a metric to the first row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// The metric.
    pub metric: String,
    /// This row's mean minus the first row's.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Difference {
    /// From a comparison with the first row's runs.
    pub fn new(metric: &str, compared: &decalign::metrics::Difference) -> Self {
        let Interval {
            estimate,
            low,
            high,
            ..
        } = compared.difference;
        Self {
            metric: metric.to_owned(),
            value: estimate,
            low,
            high,
        }
    }
}

impl SeedResult {
    /// The metrics of a run with this seed; other fields are empty.
    pub fn new(seed: u64, valid: MetricValues, test: MetricValues) -> Self {
        Self {
            seed,
            valid,
            test,
            class_accuracy: Vec::new(),
            parameters: 0,
            seconds: 0.0,
            folder: None,
        }
    }
}

impl SettingResult {
    /// The results of a setting, in a group of the table, that changes these keys.
    pub fn new(
        name: impl Into<String>,
        group: impl Into<String>,
        settings: Map<String, Value>,
        runs: Vec<SeedResult>,
    ) -> Self {
        Self {
            name: name.into(),
            group: group.into(),
            settings,
            runs,
            differences: Vec::new(),
        }
    }

    /// Mean and sample deviation over seeds of a figure on the test part.
    pub fn test(&self, metric: &str) -> Option<(f64, f64)> {
        statistic(self.runs.iter().map(|r| r.test.get(metric)))
    }

    /// Mean and sample deviation over seeds of a metric of the validation part.
    pub fn valid(&self, metric: &str) -> Option<(f64, f64)> {
        statistic(self.runs.iter().map(|r| r.valid.get(metric)))
    }

    /// The difference of a figure to the first row.
    pub fn difference(&self, metric: &str) -> Option<&Difference> {
        self.differences.iter().find(|d| d.metric == metric)
    }
}

fn statistic(values: impl Iterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| mean_and_deviation(&values))
}

/// A table of settings, with all that its figures are drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Experiment {
    /// The kind.
    pub kind: ExperimentKind,
    /// The data set's name.
    pub dataset: String,
    /// The names of the classes; none for scores.
    pub classes: Vec<String>,
    /// The keys that vary, in a sweep.
    pub keys: Vec<String>,
    /// The figure that decides which setting is best, on the validation part.
    pub selection: String,
    /// True when a smaller value is better.
    pub smaller_is_better: bool,
    /// Every setting.
    pub rows: Vec<SettingResult>,
}

impl Experiment {
    /// The results of settings, of which the smallest validation loss is best.
    pub fn new(kind: ExperimentKind, dataset: impl Into<String>, rows: Vec<SettingResult>) -> Self {
        Self {
            kind,
            dataset: dataset.into(),
            classes: Vec::new(),
            keys: Vec::new(),
            selection: "loss".to_owned(),
            smaller_is_better: true,
            rows,
        }
    }

    /// The names of the figures on the test part.
    pub fn metrics(&self) -> Vec<String> {
        let first = self.rows.iter().find_map(|r| r.runs.first());
        first.map_or_else(Vec::new, |run| {
            run.test.0.iter().map(|(n, _)| n.clone()).collect()
        })
    }

    /// The setting that validation prefers; `None` when no figure is a number.
    pub fn best(&self) -> Option<usize> {
        let sign = if self.smaller_is_better { 1.0 } else { -1.0 };
        let known = self.rows.iter().enumerate().filter_map(|(i, row)| {
            let (mean, _) = row.valid(&self.selection)?;
            mean.is_finite().then_some((i, sign * mean))
        });
        known.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    /// Mean and deviation of every figure, one row a setting; differences where there are any.
    pub fn table(&self) -> Table {
        let metrics = self.metrics();
        let shown = &metrics[..metrics.len().min(5)];
        let compared = self.rows.iter().any(|r| !r.differences.is_empty());
        let mut columns = vec!["setting".to_owned(), "seeds".to_owned()];
        if self.kind == ExperimentKind::Sweep {
            columns.push(format!("valid {}", self.selection));
        }
        for metric in shown {
            columns.extend([metric.clone(), format!("{metric} dev")]);
            if compared {
                columns.extend(["diff", "from", "to"].map(|what| format!("{metric} {what}")));
            }
        }
        columns.push("parameters".to_owned());
        let mut table = Table::new(columns);
        let best = self.best().filter(|_| self.kind == ExperimentKind::Sweep);
        for (i, row) in self.rows.iter().enumerate() {
            let mark = if best == Some(i) { " *" } else { "" };
            let mut cells: Vec<Cell> =
                vec![format!("{}{mark}", row.name).into(), row.runs.len().into()];
            if self.kind == ExperimentKind::Sweep {
                cells.push(row.valid(&self.selection).map(|v| v.0).into());
            }
            for metric in shown {
                let known = row.test(metric);
                cells.extend([known.map(|v| v.0).into(), known.map(|v| v.1).into()]);
                if compared {
                    let d = row.difference(metric);
                    cells.extend(
                        [d.map(|d| d.value), d.map(|d| d.low), d.map(|d| d.high)].map(Cell::from),
                    );
                }
            }
            cells.push(
                row.runs
                    .first()
                    .map_or(Cell::Empty, |r| r.parameters.into()),
            );
            table.push(cells);
        }
        table
    }

    /// For a terminal: the most telling columns.
    pub fn text(&self) -> String {
        let metrics = self.metrics();
        let compared = self.rows.iter().any(|r| !r.differences.is_empty());
        let shown = &metrics[..metrics.len().min(3)];
        let mut columns = vec![self.dataset.clone()];
        if self.kind == ExperimentKind::Sweep {
            columns.push(format!("valid {}", self.selection));
        }
        columns.extend(shown.iter().cloned());
        if compared {
            columns.extend(
                shown
                    .first()
                    .map(|m| format!("{m} against {}", self.rows[0].name)),
            );
        }
        let mut table = Table::new(columns);
        let best = self.best().filter(|_| self.kind == ExperimentKind::Sweep);
        for (i, row) in self.rows.iter().enumerate() {
            let mark = if best == Some(i) { " *" } else { "" };
            let mut cells: Vec<Cell> = vec![format!("{}{mark}", row.name).into()];
            if self.kind == ExperimentKind::Sweep {
                cells.push(spread(row.valid(&self.selection)).into());
            }
            cells.extend(shown.iter().map(|m| spread(row.test(m)).into()));
            if let (true, Some(metric)) = (compared, shown.first()) {
                let difference =
                    |d: &Difference| format!("{:+.4} [{:+.4}, {:+.4}]", d.value, d.low, d.high);
                cells.push(
                    row.difference(metric)
                        .map(difference)
                        .unwrap_or_default()
                        .into(),
                );
            }
            table.push(cells);
        }
        let note = match (self.kind, best) {
            (ExperimentKind::Sweep, Some(_)) => "* best on the validation part\n",
            _ => "",
        };
        table.text() + note
    }
}

/// Mean and deviation for people.
fn spread(known: Option<(f64, f64)>) -> String {
    known.map_or_else(String::new, |(mean, deviation)| match deviation {
        0.0 => format!("{mean:.4}"),
        _ => format!("{mean:.4} ± {deviation:.4}"),
    })
}
