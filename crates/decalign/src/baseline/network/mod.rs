//! The networks that fusion is usually compared by.

mod low_rank;
mod misa;
mod mult;
mod plain;
mod tensor;

use candle_core::{D, Tensor, Var};
use decalign_core::nn::{Mode, Parameters, softmax};
use decalign_data::Sequence;
use decalign_fusion::{Encoder, EncoderSettings, LayerSettings, mean_pool};

use super::{BaselineSettings, Method};
use crate::Result;
use crate::config::ModalityConfig;
use crate::dense::Dense;
use crate::objective::Objective;
use crate::train::{Criterion, LossTerms, Model};

/// The output of a network for one batch.
pub(crate) struct Forward {
    /// (B, outputs) each: one prediction, or one a member of an ensemble.
    pub(super) members: Vec<Tensor>,
    /// A loss of the network that is added to the task loss.
    pub(super) penalty: Option<Tensor>,
}

impl Forward {
    fn one(prediction: Tensor) -> Self {
        Self {
            members: vec![prediction],
            penalty: None,
        }
    }

    /// The prediction of all members together: the mean of scores, or the logarithm of the mean of
    /// class probabilities.
    fn prediction(&self) -> Result<Tensor> {
        if let [only] = self.members.as_slice() {
            return Ok(only.clone());
        }
        let classes = self.members[0].dim(D::Minus1)? > 1;
        let vote = |x: &Tensor| match classes {
            true => softmax(x),
            false => Ok(x.clone()),
        };
        let votes: Vec<Tensor> = self
            .members
            .iter()
            .map(vote)
            .collect::<decalign_core::Result<_>>()?;
        let mean = Tensor::stack(&votes, 0)?.mean(0)?;
        Ok(match classes {
            true => mean.maximum(f32::MIN_POSITIVE)?.log()?,
            false => mean,
        })
    }
}

/// The layers of a network that fuses modalities.
pub(super) trait Layers {
    /// One sequence a modality, (B, T_m, D_m).
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward>;
}

/// A network of the literature and its parameters.
pub(super) struct Network {
    parameters: Parameters,
    layers: Box<dyn Layers>,
}

impl Network {
    /// A network with fresh parameters.
    pub(super) fn new(method: Method, plan: &Plan) -> Result<Self> {
        Ok(Self {
            parameters: plan.parameters.clone(),
            layers: plan.build(method)?,
        })
    }
}

impl Model for Network {
    type Output = Forward;

    fn variables(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        self.layers.forward(sequences, mode)
    }

    fn prediction(&self, output: &Forward) -> Result<Tensor> {
        output.prediction()
    }
}

/// The loss of a network: the mean task loss of its members, and its penalty.
pub(super) struct MemberLoss(pub(super) Objective);

impl Criterion<Network> for MemberLoss {
    fn losses(&self, output: &Forward, labels: &Tensor) -> Result<LossTerms> {
        let members = output.members.iter();
        let losses: Vec<Tensor> = members
            .map(|p| self.0.task_loss(p, labels))
            .collect::<Result<_>>()?;
        let task = Tensor::stack(&losses, 0)?.mean(0)?;
        Ok(LossTerms::single(match &output.penalty {
            Some(penalty) => (task + penalty)?,
            None => task,
        }))
    }

    fn task_loss(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.0.task_loss(prediction, labels)
    }
}

/// Parameters, modalities and sizes that a network is built from.
pub(super) struct Plan<'a> {
    pub(super) parameters: &'a Parameters,
    /// Names that parameters can have, and widths, one a modality.
    pub(super) modalities: Vec<(String, usize)>,
    pub(super) outputs: usize,
    pub(super) settings: BaselineSettings,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        parameters: &'a Parameters,
        modalities: &[ModalityConfig],
        outputs: usize,
        settings: BaselineSettings,
    ) -> Self {
        let modality = |m: &ModalityConfig| (crate::model::parameter_key(&m.name), m.width);
        Self {
            parameters,
            modalities: modalities.iter().map(modality).collect(),
            outputs,
            settings,
        }
    }

    /// The network of a method.
    fn build(&self, method: Method) -> Result<Box<dyn Layers>> {
        Ok(match method {
            Method::EarlyLinear => Box::new(plain::Early::linear(self)?),
            Method::EarlyMlp => Box::new(plain::Early::perceptron(self)?),
            Method::Late => Box::new(plain::Late::new(self)?),
            Method::TensorFusion => Box::new(tensor::TensorFusion::new(self)?),
            Method::LowRankFusion => Box::new(low_rank::LowRankFusion::new(self)?),
            Method::Mult => Box::new(mult::Mult::new(self)?),
            Method::Misa => Box::new(misa::Misa::new(self)?),
        })
    }

    /// An encoder named `scope` with the dropout of the settings.
    fn encoder(
        &self,
        scope: &str,
        width: usize,
        layers: usize,
        embed_dropout: f64,
    ) -> Result<Encoder> {
        let dropout = self.settings.dropout;
        let layer = LayerSettings::new(width, self.settings.heads)
            .attention_dropout(dropout)
            .activation_dropout(dropout)
            .residual_dropout(dropout);
        let settings = EncoderSettings::new(layers, layer).embed_dropout(embed_dropout);
        Ok(Encoder::new(&self.parameters.scope(scope), settings)?)
    }

    /// A layer named `scope`.
    fn dense(&self, scope: &str, inputs: usize, outputs: usize) -> Result<Dense> {
        Ok(Dense::new(&self.parameters.scope(scope), inputs, outputs)?)
    }

    /// The widths of all modalities together.
    fn total(&self) -> usize {
        self.modalities.iter().map(|(_, width)| width).sum()
    }
}

/// A modality's vector: the mean over the steps that exist.
fn pooled(sequence: &Sequence) -> Result<Tensor> {
    Ok(mean_pool(&sequence.features, sequence.mask.as_ref())?)
}

/// `[x; 1]` of every row.
fn with_one(x: &Tensor) -> Result<Tensor> {
    let one = Tensor::ones((x.dim(0)?, 1), x.dtype(), x.device())?;
    Ok(Tensor::cat(&[x, &one], 1)?)
}
