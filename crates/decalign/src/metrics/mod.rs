//! The metrics of the benchmarks, bootstrap intervals and comparisons.
//!
//! Names are those of the benchmarks: `Acc_2`, `F1_score`, `MAE`, `Corr`, ...; [`Benchmark`] defines them.

mod bootstrap;
mod classes;
mod normal;
mod resample;
mod scores;
mod statistics;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeMap, Serializer};

pub use bootstrap::{Bootstrap, Difference, Interval, Method, Paired};
pub use statistics::{accuracy, largest_score, macro_f1, pearson, weighted_f1};

/// Whether smaller or larger values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Smaller is better.
    Min,
    /// Larger is better.
    Max,
}

/// Metrics by name, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(&'static str, f64)>);

impl Metrics {
    /// The figure of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// Names and figures.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.0.iter().copied()
    }

    /// The direction of improvement of a metric: smaller for errors and losses, larger otherwise.
    pub fn goal(name: &str) -> Goal {
        match name {
            "MAE" | "RMSE" | "loss" => Goal::Min,
            _ => Goal::Max,
        }
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Metrics {
    /// Takes the names of all benchmarks.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::deserialize(deserializer)?;
        let known: Vec<&'static str> = Benchmark::ALL
            .iter()
            .flat_map(|benchmark| benchmark.evaluate(&[], &[]).0)
            .map(|(name, _)| name)
            .collect();
        let figure = |(name, value): (String, serde_json::Value)| {
            let known = known.iter().find(|known| **known == name);
            match (known, value.as_f64()) {
                (Some(name), Some(value)) => Ok((*name, value)),
                _ => Err(D::Error::custom(format!("{name}: {value} is no metric"))),
            }
        };
        map.into_iter()
            .map(figure)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Which figures a data set is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Benchmark {
    /// CMU-MOSI and CMU-MOSEI: scores in [-3, 3].
    ///
    /// `Acc_2` and weighted `F1_score` of the sign over non-zero labels, `MAE`, `Corr` (Pearson; 0
    /// where undefined), `Acc_7` (clipped to [-3, 3], rounded half to even), then `Acc_5` and
    /// `Acc_3` (clipped to 2 and 1), and `Has0_acc_2`, `Has0_F1_score` (>= 0 over all labels).
    Mosi,
    /// CH-SIMS: scores clipped to [-1, 1].
    ///
    /// `Mult_acc_2` splits at 0, `Mult_acc_3` at -0.1 and 0.1, `Mult_acc_5` at -0.7, -0.1, 0.1, 0.7
    /// (a value on a split belongs below); weighted `F1_score` of the two classes, `MAE`, `Corr`.
    Sims,
    /// Negative, neutral, positive.
    ///
    /// `Has0_acc_2`, `Has0_F1_score`: first against last score, neutral labels count as negative;
    /// `Non0_acc_2`, `Non0_F1_score`: neutral labels left out; `Acc_3`, `F1_score_3`.
    ThreeClasses,
    /// IEMOCAP: `WAcc` (accuracy), `WAF1` (weighted F1), and both again as `Acc`, `F1_score`.
    Iemocap,
    /// Any other score: `MAE`, `RMSE`, `Corr`.
    Regression,
    /// Any other class: `Acc`, weighted `F1_score`, `Macro_F1`.
    Classification,
}

impl Benchmark {
    /// Every benchmark.
    pub const ALL: [Self; 6] = [
        Self::Mosi,
        Self::Sims,
        Self::ThreeClasses,
        Self::Iemocap,
        Self::Regression,
        Self::Classification,
    ];

    /// The name that files call it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mosi => "mosi",
            Self::Sims => "sims",
            Self::ThreeClasses => "three-classes",
            Self::Iemocap => "iemocap",
            Self::Regression => "regression",
            Self::Classification => "classification",
        }
    }

    /// The benchmark of a [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// True for benchmarks of scores, false for those of classes.
    pub fn is_regression(self) -> bool {
        matches!(self, Self::Mosi | Self::Sims | Self::Regression)
    }

    /// The benchmark of a data set's name, for scores (`classes` absent) or a number of classes.
    pub fn of(dataset_name: &str, classes: Option<usize>) -> Self {
        let name = dataset_name.to_lowercase();
        match (name.as_str(), classes) {
            ("mosi" | "mosei", None) => Self::Mosi,
            ("sims" | "ch-sims", None) => Self::Sims,
            ("mosi" | "mosei" | "sims" | "ch-sims", Some(3)) => Self::ThreeClasses,
            ("iemocap", Some(_)) => Self::Iemocap,
            (_, None) => Self::Regression,
            (_, Some(_)) => Self::Classification,
        }
    }

    /// The figures of N predictions, each `predictions.len() / labels.len()` numbers: a score, or
    /// the scores of classes.
    ///
    /// Without samples every figure is 0.
    pub fn evaluate(self, predictions: &[f32], labels: &[f32]) -> Metrics {
        let figures = match self {
            Self::Mosi => scores::mosi(predictions, labels),
            Self::Sims => scores::sims(predictions, labels),
            Self::Regression => scores::plain(predictions, labels),
            Self::ThreeClasses => classes::three(predictions, labels),
            Self::Iemocap => classes::iemocap(predictions, labels),
            Self::Classification => classes::plain(predictions, labels),
        };
        Metrics(figures)
    }
}
