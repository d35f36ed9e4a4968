//! What can be trained, and what is minimised.

use candle_core::{Tensor, Var};
use decalign_core::nn::Mode;
use decalign_data::Sequence;

use crate::Result;
use crate::model::{DecAlign, ModelOutput};
use crate::objective::{Losses, Objective};

/// A model that [`Fit`](super::Fit) can train.
///
/// The same variables, sequences and mode must give the same output, bit for bit: what is random in training
/// draws from the stream of the mode. Then a run that was interrupted ends as if it had not been.
pub trait Model {
    /// What a forward pass gives the criterion.
    type Output;

    /// The variables to train, by name; every name once, always in the same order.
    fn variables(&self) -> Vec<(String, Var)>;

    /// Runs the model on one sequence a modality.
    ///
    /// # Errors
    /// When the sequences are not what the model takes.
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Self::Output>;

    /// The prediction in an output: (B, 1) scores, or (B, C) scores of classes.
    fn prediction<'a>(&self, output: &'a Self::Output) -> &'a Tensor;
}

/// What training minimises.
pub trait Criterion<M: Model> {
    /// The losses of one batch; `labels` are scores (B, 1) or classes (B).
    ///
    /// # Errors
    /// When output and labels do not fit one another.
    fn losses(&self, output: &M::Output, labels: &Tensor) -> Result<Terms>;

    /// The loss that the validation part is judged by.
    ///
    /// # Errors
    /// When prediction and labels do not fit one another.
    fn task(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor>;
}

/// The losses of one batch, by name.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The components, scalars; the same names in the same order for every batch.
    pub components: Vec<(String, Tensor)>,
    /// What is minimised, a scalar that carries the gradient.
    pub total: Tensor,
}

impl Terms {
    /// One loss without components.
    pub fn single(total: Tensor) -> Self {
        Self {
            components: Vec::new(),
            total,
        }
    }
}

impl Model for DecAlign {
    type Output = ModelOutput;

    fn variables(&self) -> Vec<(String, Var)> {
        self.parameters().named()
    }

    /// With the alignment losses in training, without them in inference.
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<ModelOutput> {
        let align = matches!(mode, Mode::Training(_));
        DecAlign::forward(self, sequences, align, mode)
    }

    fn prediction<'a>(&self, output: &'a ModelOutput) -> &'a Tensor {
        &output.prediction
    }
}

impl<M: Model<Output = ModelOutput>> Criterion<M> for Objective {
    fn losses(&self, output: &ModelOutput, labels: &Tensor) -> Result<Terms> {
        let losses = Objective::losses(self, output, labels)?;
        let component = |(i, name): (usize, &&str)| {
            losses
                .component(i)
                .map(|loss| ((*name).to_owned(), loss.clone()))
        };
        Ok(Terms {
            components: Losses::NAMES
                .iter()
                .enumerate()
                .filter_map(component)
                .collect(),
            total: losses.total,
        })
    }

    fn task(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Objective::task(self, prediction, labels)
    }
}
