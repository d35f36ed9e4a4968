//! The arguments and results of an operation's backward pass.

use candle_core::Tensor;

use crate::Result;

/// The arguments of a backward pass.
pub struct Backward<'a> {
    /// The inputs, as given to [`record`](super::record).
    pub inputs: &'a [Tensor],
    /// The outputs.
    pub outputs: &'a [Tensor],
    /// The gradient of each output; `None` where the loss does not depend on it.
    pub gradients: &'a [Option<Tensor>],
    /// True for each input whose gradient is wanted.
    pub needed: &'a [bool],
    /// A term that is still to be added to the gradient of the output; for operations of [`record_adding`](super::record_adding) only.
    pub rest: Option<&'a Tensor>,
    /// True for each input that is a variable: nothing else reads its gradient.
    pub(super) leaves: &'a [bool],
}

impl Backward<'_> {
    /// True if nothing reads the gradient of input `i` before the end of the backward pass: its computation may be deferred until then.
    pub fn deferrable(&self, i: usize) -> bool {
        self.leaves.get(i).copied().unwrap_or(false)
    }

    /// The gradient of output `i`, zeros where the loss does not depend on it.
    pub fn gradient(&self, i: usize) -> Result<Tensor> {
        match &self.gradients[i] {
            Some(gradient) => Ok(gradient.clone()),
            None => Ok(self.outputs[i].zeros_like()?),
        }
    }
}

/// The gradients of the inputs, in order; those not needed may be `None`.
pub type InputGradients = Vec<Option<Tensor>>;

/// Computes the gradients of an operation's inputs.
pub(super) type BackwardFn = dyn Fn(&Backward) -> Result<InputGradients> + Send + Sync;
