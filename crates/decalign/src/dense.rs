//! A linear layer of the model and of baselines.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_core::nn::{Init, Mode, Parameters, linear, linear_relu_dropout};

/// Weight (outputs, inputs) and bias of a linear layer.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    weight: Tensor,
    bias: Tensor,
}

impl Dense {
    pub(crate) fn new(parameters: &Parameters, inputs: usize, outputs: usize) -> Result<Self> {
        let init = Init::KaimingUniform { fan_in: inputs };
        Ok(Self {
            weight: parameters.get("weight", (outputs, inputs), init)?,
            bias: parameters.get("bias", outputs, init)?,
        })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, Some(&self.bias))
    }

    /// The layer, a rectifier, and dropout.
    pub(crate) fn hidden(&self, x: &Tensor, dropout: f64, mode: Mode) -> Result<Tensor> {
        linear_relu_dropout(x, &self.weight, Some(&self.bias), (dropout, mode))
    }
}
