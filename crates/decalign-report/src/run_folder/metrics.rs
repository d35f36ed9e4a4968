//! `metrics.json`: metrics of a finished run.

use std::path::Path;

use decalign::metrics::{Benchmark, Bootstrap, Metrics};
use decalign::train::ModelOutcome;
use decalign_data::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{METRICS, read_json};

/// The metrics of the best model of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunMetrics {
    /// The seed.
    pub seed: u64,
    /// The best epoch, counted from 1.
    pub best_epoch: usize,
    /// The number of epochs.
    pub epochs: usize,
    /// Wall time of training in seconds.
    pub seconds: f64,
    /// The number of parameters.
    pub parameters: usize,
    /// Metrics of the validation part.
    pub valid: Metrics,
    /// Metrics of the test part.
    pub test: Metrics,
    /// Bootstrap intervals of the test part, see [`intervals`].
    pub intervals: Value,
}

impl RunMetrics {
    /// The metrics of a run with this seed; see [`intervals`].
    pub fn new<M>(seed: u64, outcome: &ModelOutcome<M>, intervals: Value) -> Self {
        Self {
            seed,
            best_epoch: outcome.best_epoch,
            epochs: outcome.epochs.len(),
            seconds: outcome.seconds,
            parameters: outcome.parameters,
            valid: outcome.valid.clone(),
            test: outcome.test.clone(),
            intervals,
        }
    }

    /// Reads the metrics of a folder.
    ///
    /// # Errors
    /// When the file does not exist or does not have the schema.
    pub fn open(folder: &Path) -> Result<Self> {
        read_json(&folder.join(METRICS))
    }
}

/// Bootstrap intervals of the metrics of `predictions`: the settings of the bootstrap, and under `part` the pair
/// `[low, high]` of each metric.
pub fn intervals(benchmark: Benchmark, part: &str, predictions: &[f32], labels: &[f32]) -> Value {
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
