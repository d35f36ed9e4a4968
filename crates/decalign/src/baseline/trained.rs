//! Training of baseline networks.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::op::without_gradients;
use decalign_core::random::Stream;
use decalign_data::{BatchSampler, Dataset, Labels, Part};
use serde::{Deserialize, Serialize};

use super::network::{Network, Plan};
use crate::config::{ClassWeight, Config, Mode as Goal, Resolved, Task};
use crate::metrics::Metrics;
use crate::objective::{Objective, class_weights, numbers, scalar};
use crate::optim::{Adam, AdamSettings, EarlyStopping};
use crate::{Error, Result, inputs};

/// A network of the literature that fuses modalities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One linear layer on all features.
    EarlyLinear,
    /// One hidden layer on all features.
    EarlyMlp,
    /// A perceptron a modality, averaged.
    Late,
    /// Outer product of all modalities (TFN: Zadeh and others, 2017).
    TensorFusion,
    /// The same with factors of low rank (LMF: Liu and others, 2018).
    LowRankFusion,
    /// Cross-modal transformers (MulT: Tsai and others, 2019).
    Mult,
    /// Shared and private parts (MISA: Hazarika and others, 2020).
    Misa,
}

impl Method {
    /// Every method, the simplest first.
    pub const ALL: [Self; 7] = [
        Self::EarlyLinear,
        Self::EarlyMlp,
        Self::Late,
        Self::TensorFusion,
        Self::LowRankFusion,
        Self::Mult,
        Self::Misa,
    ];

    /// What the field calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyLinear => "early fusion, linear",
            Self::EarlyMlp => "early fusion, MLP",
            Self::Late => "late fusion",
            Self::TensorFusion => "TFN",
            Self::LowRankFusion => "LMF",
            Self::Mult => "MulT",
            Self::Misa => "MISA",
        }
    }
}

/// How baseline networks are built and trained: the same for all, and apart from the model's
/// settings, so that a change to the model does not move what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BaselineSettings {
    /// Width of hidden layers.
    pub width: usize,
    /// Attention heads of MulT and MISA; they divide the width.
    pub heads: usize,
    /// Layers of MulT's encoders.
    pub layers: usize,
    /// Rank of LMF's factors.
    pub rank: usize,
    /// Dropout after hidden layers.
    pub dropout: f64,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// L2 weight decay, inside the gradient.
    pub weight_decay: f64,
    /// The norm of all gradients is clipped to this.
    pub clip: f64,
    /// Samples a batch.
    pub batch_size: usize,
    /// Passes over the training part, at most.
    pub epochs: usize,
    /// Epochs after the best one before training stops.
    pub patience: usize,
}

impl Default for BaselineSettings {
    fn default() -> Self {
        Self {
            width: 48,
            heads: 4,
            layers: 2,
            rank: 4,
            dropout: 0.2,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            clip: 1.0,
            batch_size: 32,
            epochs: 50,
            patience: 10,
        }
    }
}

impl BaselineSettings {
    fn check(&self) -> Result<()> {
        let counts = [
            ("width", self.width),
            ("heads", self.heads),
            ("layers", self.layers),
            ("rank", self.rank),
            ("epochs", self.epochs),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            let message = format!("baseline settings: {name} is 0, must be at least 1");
            return Err(Error::invalid(message));
        }
        let rates = [("learning_rate", self.learning_rate), ("clip", self.clip)];
        match rates.into_iter().find(|(_, v)| v.is_nan() || *v <= 0.0) {
            Some((name, v)) => {
                let message = format!("baseline settings: {name} is {v}, must be positive");
                Err(Error::invalid(message))
            }
            None => Ok(()),
        }
    }
}

/// How the training of a baseline network ended.
#[derive(Clone, Debug)]
pub struct BaselineOutcome {
    /// Its method.
    pub method: Method,
    /// Figures of the best epoch on the validation part.
    pub valid: Metrics,
    /// Figures on the test part.
    pub test: Metrics,
    /// Scores or logits of the test part's samples, in their order.
    pub predictions: Vec<f32>,
    /// The epoch with the least validation loss, counted from 1.
    pub best_epoch: usize,
    /// How many numbers the network learns.
    pub parameters: usize,
    /// Wall time of training.
    pub seconds: f64,
}

/// Trains a baseline network on the split, the standardisation, the task loss and the seed of a
/// configuration; the epoch with the least validation loss counts.
///
/// ```
/// use candle_core::Device;
/// use decalign::Dataset;
/// use decalign::baseline::{BaselineSettings, Method, train_baseline};
/// use decalign::config::Config;
///
/// let mut config = Config::preset("mfeat")?;
/// config.set("modalities=fou,mor")?;
/// let settings = BaselineSettings { epochs: 1, ..BaselineSettings::default() };
/// let digits = Dataset::mfeat()?;
/// let outcome = train_baseline(Method::Late, &settings, &config, &digits, &Device::Cpu)?;
/// println!("{:?}", outcome.test.get("Acc"));
/// # Ok::<(), decalign::Error>(())
/// ```
///
/// # Errors
/// When configuration and data do not fit one another, or training diverges.
pub fn train_baseline(
    method: Method,
    settings: &BaselineSettings,
    config: &Config,
    data: &Dataset,
    device: &Device,
) -> Result<BaselineOutcome> {
    let start = Instant::now();
    settings.check()?;
    let ready = Ready::new(config, data, device)?;
    let parameters = Parameters::new(config.seed, DType::F32, device);
    let model = &ready.resolved.model;
    let plan = Plan::new(&parameters, &model.modalities, model.outputs, *settings);
    let network = plan.build(method)?;
    let trained = ready.train(method, network.as_ref(), &parameters, settings)?;
    let benchmark = ready.resolved.benchmark();
    let judge = |rows: &[usize], predictions: &[f32]| {
        benchmark.evaluate(predictions, &inputs::labels(&ready.data, rows))
    };
    Ok(BaselineOutcome {
        method,
        valid: judge(&ready.rows[1], &trained.valid),
        test: judge(&ready.rows[2], &trained.test),
        predictions: trained.test,
        best_epoch: trained.epoch,
        parameters: parameters.count(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Keeps dropout's numbers apart from those of the shuffle and of initialisation.
const DROPOUT: u64 = 0x424c_4452;

/// Data and objective, prepared as the model's are.
struct Ready<'a> {
    resolved: Resolved,
    data: Dataset,
    rows: [Vec<usize>; 3],
    objective: Objective,
    device: &'a Device,
}

/// Predictions at the best epoch.
struct Trained {
    epoch: usize,
    valid: Vec<f32>,
    test: Vec<f32>,
}

impl<'a> Ready<'a> {
    fn new(config: &Config, data: &Dataset, device: &'a Device) -> Result<Self> {
        let data = inputs::select(data, config)?;
        let resolved = config.resolve(&data)?;
        let part = |part| data.part(config.split.as_deref(), part);
        let rows = [part(Part::Train)?, part(Part::Valid)?, part(Part::Test)?];
        let standardizer = inputs::standardizer(&data, &rows[0], config)?;
        let data = inputs::standardize(&data, standardizer.as_ref())?.into_owned();
        let weights = match (&resolved.objective.task, data.labels()) {
            (
                Task::Classification {
                    classes,
                    class_weight: ClassWeight::Balanced,
                },
                Some(Labels::Classes { values, .. }),
            ) => {
                let labels: Vec<usize> = rows[0].iter().map(|r| values[*r] as usize).collect();
                Some(class_weights(*classes, &labels))
            }
            _ => None,
        };
        Ok(Self {
            objective: Objective::new(&resolved.objective, weights),
            resolved,
            data,
            rows,
            device,
        })
    }

    fn train(
        &self,
        method: Method,
        network: &dyn Network,
        parameters: &Parameters,
        settings: &BaselineSettings,
    ) -> Result<Trained> {
        let seed = self.resolved.config.seed;
        let sampler = BatchSampler::new(self.rows[0].clone(), settings.batch_size, seed)?;
        let adam = AdamSettings::new(settings.weight_decay, settings.clip);
        let mut adam = Adam::new(parameters.named(), adam);
        let mut stopping = EarlyStopping::new(Goal::Min, settings.patience);
        let mut best = None;
        for epoch in 1..=settings.epochs {
            let dropout = Stream::new(seed, DROPOUT).child(epoch as u64);
            for (i, rows) in sampler.epoch(epoch as u64).iter().enumerate() {
                let mode = Mode::Training(dropout.child(i as u64));
                let loss = self.loss(network, rows, mode)?;
                let norm = adam.step(&loss.backward()?, |_| settings.learning_rate)?;
                let norm = norm.value()?;
                if !norm.is_finite() {
                    let what = format!("{}: the norm of the gradients is {norm}", method.name());
                    return Err(Error::diverged(what, epoch, i + 1));
                }
            }
            let (loss, valid) = self.predict(network, &self.rows[1], settings.batch_size)?;
            if stopping.observe(epoch, loss) {
                let (_, test) = self.predict(network, &self.rows[2], settings.batch_size)?;
                best = Some(Trained { epoch, valid, test });
            }
            if stopping.exhausted(epoch) {
                break;
            }
        }
        best.ok_or_else(|| {
            let name = method.name();
            Error::invalid(format!("{name}: the validation loss was never a number"))
        })
    }

    /// The mean task loss of the members, and the network's own.
    fn loss(&self, network: &dyn Network, rows: &[usize], mode: Mode) -> Result<Tensor> {
        let batch = self.data.batch(rows, DType::F32, self.device)?;
        let labels = batch
            .labels
            .as_ref()
            .ok_or_else(|| Error::invalid("training needs labels"))?;
        let forward = network.forward(&batch.sequences, mode)?;
        let members = forward.members.iter();
        let losses: Vec<Tensor> = members
            .map(|p| self.objective.task(p, labels))
            .collect::<Result<_>>()?;
        let task = Tensor::stack(&losses, 0)?.mean(0)?;
        Ok(match forward.penalty {
            Some(penalty) => (task + penalty)?,
            None => task,
        })
    }

    /// The mean task loss over samples, and the predictions.
    fn predict(
        &self,
        network: &dyn Network,
        rows: &[usize],
        size: usize,
    ) -> Result<(f64, Vec<f32>)> {
        let (mut loss, mut predictions) = (0.0, Vec::new());
        for chunk in rows.chunks(size.max(1)) {
            let batch = self.data.batch(chunk, DType::F32, self.device)?;
            let forward = || {
                network
                    .forward(&batch.sequences, Mode::Inference)?
                    .prediction()
            };
            let prediction = without_gradients(forward)?;
            if let Some(labels) = &batch.labels {
                let each = scalar(&self.objective.task(&prediction, labels)?)?;
                loss += each * chunk.len() as f64 / rows.len() as f64;
            }
            predictions.extend(numbers(&prediction)?.into_iter().map(|v| v as f32));
        }
        Ok((loss, predictions))
    }
}
