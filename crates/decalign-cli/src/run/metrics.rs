//! `metrics.json`: figures of a run that is done.

use std::path::Path;

use decalign::metrics::{Benchmark, Bootstrap, Metrics};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::output::{Done, Failure};

/// The file.
pub(crate) const METRICS: &str = "metrics.json";

/// Figures of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) seed: u64,
    pub(crate) best_epoch: usize,
    pub(crate) epochs: usize,
    pub(crate) seconds: f64,
    pub(crate) parameters: usize,
    pub(crate) valid: Metrics,
    pub(crate) test: Metrics,
    pub(crate) intervals: Value,
}

impl Figures {
    pub(crate) fn open(folder: &Path) -> Done<Self> {
        let path = folder.join(METRICS);
        let bad = |message: String| Failure::bad_input(format!("{}: {message}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
    }
}

/// Intervals of the figures of some predictions, as files and `--json` show them.
pub(crate) fn intervals(
    benchmark: Benchmark,
    part: &str,
    predictions: &[f32],
    labels: &[f32],
) -> Value {
    let bootstrap = Bootstrap::default();
    let each: Map<String, Value> = bootstrap
        .metrics(benchmark, predictions, labels)
        .into_iter()
        .map(|(name, interval)| (name.to_owned(), json!([interval.low, interval.high])))
        .collect();
    let mut value = json!(bootstrap);
    value[part] = Value::Object(each);
    value
}
