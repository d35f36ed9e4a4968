//! How to train: everything that does not concern the model.

use serde::Serialize;

use crate::config::{Config, Mode};
use crate::metrics::{Benchmark, Metrics};
use crate::optim::Goal;
use crate::{Error, Result};

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSettings {
    /// Decides the order of batches and dropout.
    pub seed: u64,
    /// Samples a batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Passes over the training part, at most.
    pub epochs: usize,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// Learning rates of the parameters whose names begin so; the first that fits counts.
    pub rates: Vec<(String, f64)>,
    /// L2 weight decay, inside the gradient.
    pub weight_decay: f64,
    /// The norm of all gradients is clipped to this; infinite for none.
    pub clip: f64,
    /// The learning rate is multiplied by this on a plateau.
    pub factor: f64,
    /// Epochs without improvement before that.
    pub scheduler_patience: usize,
    /// What decides the learning rate.
    pub scheduler: Watch,
    /// Epochs after the best one before training stops.
    pub patience: usize,
    /// What decides the best epoch.
    pub selection: Watch,
}

/// A figure of the validation part, and which way it is better.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Watch {
    /// A metric of the benchmark; the validation loss when absent.
    pub metric: Option<String>,
    /// Whether it is to fall or to rise; known for known metrics.
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
        // The release calls the validation loss by the data set's name.
        let is_loss =
            |name: &str| name == "loss" || name.eq_ignore_ascii_case(&config.dataset_name);
        let watch = |metric: &Option<String>, goal| Watch {
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
            scheduler: watch(&config.scheduler_metric, config.scheduler_mode),
            patience: config.early_stop_patience,
            selection: watch(&config.selection_metric, config.selection_mode),
        }
    }
}

impl TrainSettings {
    /// Fails at a value that no data could make right.
    pub(super) fn check(&self, benchmark: Benchmark) -> Result<()> {
        for (key, count) in [("batch_size", self.batch_size), ("num_epochs", self.epochs)] {
            if count == 0 {
                return Err(Error::config(key, "is 0, must be at least 1"));
            }
        }
        let rates = self.rates.iter().map(|(_, rate)| ("learning_rate", *rate));
        let positive = [
            ("learning_rate", self.learning_rate),
            ("factor", self.factor),
        ];
        if let Some((key, v)) = rates
            .chain(positive)
            .find(|(_, v)| !(*v > 0.0 && v.is_finite()))
        {
            return Err(Error::config(key, format!("is {v}, must be positive")));
        }
        if self.clip.is_nan() || self.clip <= 0.0 {
            return Err(Error::config(
                "clip",
                format!("is {}, must be positive", self.clip),
            ));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            let message = format!("is {}, must be 0 or positive", self.weight_decay);
            return Err(Error::config("weight_decay", message));
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

impl Watch {
    fn check(&self, benchmark: Benchmark, key: &str) -> Result<()> {
        let Some(name) = &self.metric else {
            return Ok(());
        };
        let known = benchmark.evaluate(&[], &[]);
        if known.get(name).is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| name).collect();
            let message = format!("{name} is not known; there are loss, {}", names.join(", "));
            return Err(Error::config(key, message));
        }
        Ok(())
    }

    /// Which way is better.
    pub(super) fn goal(&self) -> Goal {
        let usual = self.metric.as_deref().map_or(Mode::Min, Metrics::mode);
        self.goal.unwrap_or(usual)
    }

    /// The figure of an epoch; NaN where there is none.
    pub(super) fn of(&self, loss: f64, metrics: &Metrics) -> f64 {
        let named = |name: &String| metrics.get(name).unwrap_or(f64::NAN);
        self.metric.as_ref().map_or(loss, named)
    }
}
