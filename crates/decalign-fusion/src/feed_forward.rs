//! The feed-forward network of a layer.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_core::nn::{Mode, linear, linear_relu_dropout};

use crate::op::gelu::gelu;

/// The activation between the two linear maps of the feed-forward network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`, as in DecAlign.
    #[default]
    Relu,
    /// See [`gelu`](crate::gelu()), as in BERT.
    Gelu,
}

/// `activation(x W_1^T + b_1) W_2^T + b_2`, with dropout after the activation.
pub(crate) fn feed_forward(
    x: &Tensor,
    expand: &[Tensor; 2],
    contract: &[Tensor; 2],
    activation: Activation,
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    let [weight, bias] = expand;
    let hidden = match activation {
        Activation::Relu => linear_relu_dropout(x, weight, Some(bias), (p, mode))?,
        Activation::Gelu => mode.dropout(&gelu(&linear(x, weight, Some(bias))?)?, p)?,
    };
    linear(&hidden, &contract[0], Some(&contract[1]))
}
