//! The traits of the trainer: [`Model`] and [`Criterion`].

use candle_core::{Tensor, Var};
use decalign_core::nn::Mode;
use decalign_data::Sequence;

use crate::Result;
use crate::objective::LossTerms;

/// A model that [`Trainer`](super::Trainer) can train.
///
/// Equal variables, sequences and mode must give equal output, bit for bit: dropout and other random draws take
/// their numbers from the stream of the mode. An interrupted run then ends with the bits of an uninterrupted one.
pub trait Model {
    /// The result of a forward pass, as the criterion takes it.
    type Output;

    /// The variables to train by name: every name once, always in one order.
    fn variables(&self) -> Vec<(String, Var)>;

    /// Runs the model on one sequence per modality.
    ///
    /// # Errors
    /// When the number or the shapes of the sequences do not fit the model.
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Self::Output>;

    /// The prediction of a forward pass.
    ///
    /// # Shapes
    /// (B, 1) scores, or (B, C) logits of classes.
    ///
    /// # Errors
    /// When the prediction has to be computed from the output and cannot be.
    fn prediction(&self, output: &Self::Output) -> Result<Tensor>;
}

/// The losses that training minimises.
pub trait Criterion<M: Model> {
    /// The losses of one batch.
    ///
    /// # Shapes
    /// `labels`: scores (B, 1) or class numbers (B).
    ///
    /// # Errors
    /// When output and labels do not fit one another.
    fn losses(&self, output: &M::Output, labels: &Tensor) -> Result<LossTerms>;

    /// The loss of a prediction, computed on the validation part.
    ///
    /// # Errors
    /// When prediction and labels do not fit one another.
    fn task_loss(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor>;
}
