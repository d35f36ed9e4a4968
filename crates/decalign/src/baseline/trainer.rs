//! Training of baseline networks.

use candle_core::{DType, Device};
use decalign_core::nn::Parameters;
use decalign_data::Dataset;
use serde::{Deserialize, Serialize};

use super::network::{MemberLoss, Network, Plan};
use crate::config::Config;
use crate::train::{
    LossAverage, ModelOutcome, Monitor, Observer, Prepared, ResumePolicy, TrainSettings,
};
use crate::{Error, Result};

/// A network of the literature that fuses modalities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// One linear layer on all features.
    EarlyLinear,
    /// One hidden layer on all features.
    EarlyMlp,
    /// A perceptron per modality; their predictions are averaged.
    Late,
    /// Outer product of all modalities (TFN: Zadeh and others, 2017).
    TensorFusion,
    /// Outer product with low-rank factors (LMF: Liu and others, 2018).
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

    /// The usual name in the literature.
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

/// Sizes and training of baseline networks, equal for all methods. They are independent of DecAlign's settings, so
/// that a change to DecAlign does not change what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
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
    /// The trainer's settings: a constant learning rate, and the mean loss over validation samples as monitor.
    fn training(&self, config: &Config) -> TrainSettings {
        TrainSettings {
            seed: config.seed,
            batch_size: self.batch_size,
            epochs: self.epochs,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            clip: self.clip,
            factor: 1.0,
            patience: self.patience,
            selection: Monitor::default(),
            scheduler: Monitor::default(),
            valid_loss: LossAverage::Samples,
            dropout_stream: DROPOUT,
            ..TrainSettings::default()
        }
    }

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

/// Trains baseline networks on the split, the standardisation, the task loss and the seed of a configuration; the
/// epoch with the least validation loss counts.
///
/// ```
/// use candle_core::Device;
/// use decalign::Dataset;
/// use decalign::baseline::{BaselineSettings, BaselineTrainer, Method};
/// use decalign::config::Config;
/// use decalign::train::{ResumePolicy, Silent};
///
/// let mut config = Config::preset("mfeat")?;
/// config.set("modalities=fou,mor")?;
/// let mut settings = BaselineSettings::default();
/// settings.epochs = 1;
/// let trainer = BaselineTrainer::new(&settings, &config, &Dataset::mfeat()?, &Device::Cpu)?;
/// let outcome = trainer.run(Method::Late, &ResumePolicy::none(), &mut Silent)?;
/// println!("{:?}", outcome.test.get("Acc"));
/// # Ok::<(), decalign::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BaselineTrainer {
    settings: BaselineSettings,
    prepared: Prepared,
}

/// The random stream of the baselines' dropout: apart from those of DecAlign, the shuffle and initialisation.
const DROPOUT: u64 = 0x424c_4452;

impl BaselineTrainer {
    /// Checks settings and configuration against data and prepares the data.
    ///
    /// # Errors
    /// When they do not fit one another; the message names the setting, the key or the field.
    pub fn new(
        settings: &BaselineSettings,
        config: &Config,
        data: &Dataset,
        device: &Device,
    ) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            settings: *settings,
            prepared: Prepared::new(config, data, device, |config| settings.training(config))?,
        })
    }

    /// This trainer with another seed; the prepared data is shared, not copied.
    pub fn with_seed(self, seed: u64) -> Self {
        let prepared = self.prepared.with_seed(seed);
        Self { prepared, ..self }
    }

    /// The samples of the training, validation and test part.
    pub fn rows(&self) -> &[Vec<usize>; 3] {
        self.prepared.trainer.rows()
    }

    /// Trains the network of a method; a state found by `resume` is continued.
    ///
    /// # Errors
    /// When the method cannot be built for the modalities, and as [`Trainer::run`](crate::train::Trainer::run).
    pub fn run(
        &self,
        method: Method,
        resume: &ResumePolicy,
        observer: &mut dyn Observer,
    ) -> Result<ModelOutcome<Method>> {
        let Prepared {
            resolved, trainer, ..
        } = &self.prepared;
        let model = &resolved.model;
        let parameters = Parameters::new(resolved.config.seed, DType::F32, self.prepared.device());
        let plan = Plan::new(&parameters, &model.modalities, model.outputs, self.settings);
        let network = Network::new(method, &plan)?;
        let criterion = MemberLoss(self.prepared.objective());
        let outcome = trainer.run(&network, &criterion, resume, observer)?;
        Ok(self.prepared.outcome(outcome, |_| method))
    }
}
