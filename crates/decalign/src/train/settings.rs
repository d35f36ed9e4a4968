//! Settings of the trainer.

use serde::Serialize;

use super::LossAverage;
use crate::config::{Config, Goal, Range};
use crate::metrics::{Benchmark, Metrics};
use crate::{Error, Result};

/// The random stream that dropout draws from by default: apart from those of the shuffle and of initialisation.
const DROPOUT: u64 = 0x4452_4f50;

/// Settings of the trainer. Start from the default and set fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainSettings {
    /// Seed of the order of batches and of dropout.
    pub seed: u64,
    /// Samples per batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Passes over the training part, at most.
    pub epochs: usize,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// Learning rates by prefix of the parameter's name; the first match counts.
    pub rates: Vec<(String, f64)>,
    /// L2 weight decay, inside the gradient.
    pub weight_decay: f64,
    /// Maximum norm of all gradients together; infinite for no clipping.
    pub clip: f64,
    /// Factor of the learning rate on a plateau; 1 for a constant rate.
    pub factor: f64,
    /// Epochs without improvement before the rate falls.
    pub scheduler_patience: usize,
    /// The metric that decides the learning rate.
    pub scheduler: Monitor,
    /// Epochs after the best one before training stops.
    pub patience: usize,
    /// The metric that decides the best epoch.
    pub selection: Monitor,
    /// How the validation loss is averaged.
    #[serde(skip_serializing_if = "is_default")]
    pub valid_loss: LossAverage,
    /// The number of the random stream that dropout draws from.
    #[serde(skip_serializing_if = "is_dropout")]
    pub dropout_stream: u64,
}

// Fields added after the first format of states are left out of a run's identity while they have their defaults.

fn is_default(average: &LossAverage) -> bool {
    *average == LossAverage::default()
}

fn is_dropout(stream: &u64) -> bool {
    *stream == DROPOUT
}

/// A monitored metric of the validation part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Monitor {
    /// The name of a metric of the benchmark; the validation loss when absent.
    pub metric: Option<String>,
    /// Whether smaller or larger is better; known for known metrics when absent.
    pub goal: Option<Goal>,
}

impl Default for TrainSettings {
    fn default() -> Self {
        let mut settings = Self::from(&Config::default());
        settings.rates.clear();
        settings
    }
}

impl From<&Config> for TrainSettings {
    fn from(config: &Config) -> Self {
        // The upstream code names the validation loss after the data set.
        let is_loss =
            |name: &str| name == "loss" || name.eq_ignore_ascii_case(&config.dataset_name);
        let monitor = |metric: &Option<String>, goal| Monitor {
            metric: metric.clone().filter(|name| !is_loss(name)),
            goal,
        };
        let text = config
            .bert_learning_rate
            .map(|rate| ("text_model.".to_owned(), rate));
        Self {
            seed: config.seed,
            batch_size: config.batch_size,
            epochs: config.num_epochs,
            learning_rate: config.learning_rate,
            rates: text.into_iter().collect(),
            weight_decay: config.weight_decay,
            clip: config.clip,
            factor: config.factor,
            scheduler_patience: config.scheduler_patience,
            scheduler: monitor(&config.scheduler_metric, config.scheduler_mode),
            patience: config.early_stop_patience,
            selection: monitor(&config.selection_metric, config.selection_mode),
            valid_loss: LossAverage::default(),
            dropout_stream: DROPOUT,
        }
    }
}

impl TrainSettings {
    /// Checks every value's range.
    pub(super) fn check(&self, benchmark: Benchmark) -> Result<()> {
        let rates = self.rates.iter().map(|(_, rate)| *rate);
        let rates = rates.map(|rate| ("learning_rate", Range::Positive, rate));
        let checks = [
            ("batch_size", Range::Count, self.batch_size as f64),
            ("num_epochs", Range::Count, self.epochs as f64),
            ("learning_rate", Range::Positive, self.learning_rate),
            ("factor", Range::Positive, self.factor),
            ("weight_decay", Range::NotNegative, self.weight_decay),
        ];
        // An infinite norm is never reached: no clipping.
        let clip = (self.clip != f64::INFINITY).then_some(("clip", Range::Positive, self.clip));
        for (key, range, x) in checks.into_iter().chain(rates).chain(clip) {
            range
                .check(x)
                .map_err(|message| Error::config(key, message))?;
        }
        self.selection.check(benchmark, "selection_metric")?;
        self.scheduler.check(benchmark, "scheduler_metric")
    }

    /// The learning rate of a parameter, before the schedule.
    pub(super) fn rate(&self, name: &str) -> f64 {
        let own = self
            .rates
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix));
        own.map_or(self.learning_rate, |(_, rate)| *rate)
    }
}

impl Monitor {
    fn check(&self, benchmark: Benchmark, key: &str) -> Result<()> {
        let Some(name) = &self.metric else {
            return Ok(());
        };
        let known = benchmark.evaluate(&[], &[]);
        if known.get(name).is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| name).collect();
            let message = format!("{name} is unknown; known are loss, {}", names.join(", "));
            return Err(Error::config(key, message));
        }
        Ok(())
    }

    /// The direction of improvement.
    pub(super) fn goal(&self) -> Goal {
        let usual = self.metric.as_deref().map_or(Goal::Min, Metrics::goal);
        self.goal.unwrap_or(usual)
    }

    /// The monitored value of an epoch; NaN if there is none.
    pub(super) fn value(&self, loss: f64, metrics: &Metrics) -> f64 {
        let named = |name: &String| metrics.get(name).unwrap_or(f64::NAN);
        self.metric.as_ref().map_or(loss, named)
    }
}
