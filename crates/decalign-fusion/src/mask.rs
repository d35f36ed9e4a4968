//! Which keys queries attend to: the public mask, and its checked form.

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use crate::attention_shape::AttentionShape;

/// Which keys each query attends to, and a bias of the logits.
///
/// The default lets every query attend to every key. Set what differs:
///
/// ```
/// use decalign_fusion::AttentionMask;
/// let mask = AttentionMask::default().causal(true);
/// assert!(mask.causal && mask.keys.is_none());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AttentionMask<'a> {
    /// Query i attends to keys 0 to i.
    pub causal: bool,
    /// (B, S), 0 where a key does not exist.
    pub keys: Option<&'a Tensor>,
    /// Added to the scaled products before the softmax, in any shape that broadcasts to
    /// (B, heads, L, S); -inf hides a key. It may carry a gradient.
    pub bias: Option<&'a Tensor>,
}

impl<'a> AttentionMask<'a> {
    setters!(causal: bool, keys: Option<&'a Tensor>, bias: Option<&'a Tensor>);
}

/// A checked [`AttentionMask`] with the dropout of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    /// Query i attends to keys 0..=i.
    pub(crate) causal: bool,
    /// (B, S), 0 where a key does not exist.
    pub(crate) keys: Option<Tensor>,
    /// Rank 4, each dimension 1 or that of (B, H, L, S).
    pub(crate) bias: Option<Tensor>,
    /// Probability and random stream of dropout of the weights.
    pub(crate) drop: Option<(f64, Stream)>,
}

impl Mask {
    /// Checks the mask and converts it to the dtype of the queries.
    pub(crate) fn new(
        q: &Tensor,
        shape: AttentionShape,
        mask: AttentionMask,
        (p, mode): (f64, Mode),
    ) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::value("attention dropout", p, "must lie in [0, 1)"));
        }
        let keys = match mask.keys {
            Some(mask) if mask.dims() != [shape.batch, shape.keys] => {
                let expected = format!("shape ({}, {})", shape.batch, shape.keys);
                return Err(Error::tensor("key mask", expected, mask.shape()));
            }
            Some(mask) => Some(mask.to_dtype(q.dtype())?),
            None => None,
        };
        let bias = mask.bias.map(|bias| broadcastable(bias, shape));
        let bias = bias.transpose()?.map(|bias| bias.to_dtype(q.dtype()));
        Ok(Self {
            causal: mask.causal,
            keys,
            bias: bias.transpose()?,
            drop: mode.stream(p).map(|stream| (p, stream)),
        })
    }
}

/// The bias with rank 4: dimensions of 1 are prepended.
fn broadcastable(bias: &Tensor, shape: AttentionShape) -> Result<Tensor> {
    let full = [shape.batch, shape.heads, shape.queries, shape.keys];
    let mut dims = bias.dims().to_vec();
    while dims.len() < full.len() {
        dims.insert(0, 1);
    }
    let fits = dims.len() == full.len() && dims.iter().zip(full).all(|(d, f)| *d == f || *d == 1);
    if !fits {
        let expected = format!("a shape that broadcasts to {full:?}, (B, heads, L, S)");
        return Err(Error::tensor("attention bias", expected, bias.shape()));
    }
    Ok(bias.reshape(dims)?)
}
