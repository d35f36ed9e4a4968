//! What one attention is over, and what it leaves out.

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use crate::attention::AttentionMask;

/// The sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionSize {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    /// Of queries and keys, all heads together.
    pub(crate) width: usize,
    /// Of values and results.
    pub(crate) value_width: usize,
    pub(crate) heads: usize,
}

impl AttentionSize {
    /// Width of one head's queries and keys.
    pub(crate) fn head(self) -> usize {
        self.width / self.heads
    }

    /// Width of one head's values.
    pub(crate) fn value_head(self) -> usize {
        self.value_width / self.heads
    }

    /// Without values, theirs are taken to be as wide as the keys.
    pub(crate) fn new(q: &Tensor, k: &Tensor, v: Option<&Tensor>, heads: usize) -> Result<Self> {
        let (batch, queries, width) = q
            .dims3()
            .map_err(|_| Error::tensor("queries", "shape (B, L, d)", q.shape()))?;
        let (b, keys, d) = k
            .dims3()
            .map_err(|_| Error::tensor("keys", "shape (B, S, d)", k.shape()))?;
        if (b, d) != (batch, width) || keys == 0 {
            let expected = format!("shape ({batch}, S >= 1, {width})");
            return Err(Error::tensor("keys", expected, k.shape()));
        }
        let value_width = match v {
            None => width,
            Some(v) => match *v.dims() {
                [b, s, value_width] if (b, s) == (batch, keys) => value_width,
                _ => {
                    let expected = format!("shape ({batch}, {keys}, any width)");
                    return Err(Error::tensor("values", expected, v.shape()));
                }
            },
        };
        for width in [width, value_width] {
            check_heads(heads, width)?;
        }
        Ok(Self {
            batch,
            queries,
            keys,
            width,
            value_width,
            heads,
        })
    }
}

/// An error unless the width is that of so many heads.
pub(crate) fn check_heads(heads: usize, width: usize) -> Result<()> {
    if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
        let remedy = format!("must be at least 1 and divide the width {width}");
        return Err(Error::value("heads", heads, remedy));
    }
    Ok(())
}

/// What an attention is allowed to see, adds, and drops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restriction {
    /// Query i sees keys 0..=i.
    pub(crate) causal: bool,
    /// (B, S), 0 where a key does not exist.
    pub(crate) key_mask: Option<Tensor>,
    /// Of rank 4, each size 1 or that of (B, H, L, S).
    pub(crate) bias: Option<Tensor>,
    /// Probability and stream of dropout on the weights.
    pub(crate) drop: Option<(f64, Stream)>,
}

impl Restriction {
    /// The mask in the type of the queries, checked.
    pub(crate) fn new(
        q: &Tensor,
        size: AttentionSize,
        mask: AttentionMask,
        (p, mode): (f64, Mode),
    ) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::value("attention dropout", p, "must lie in [0, 1)"));
        }
        let key_mask = match mask.keys {
            Some(mask) if mask.dims() != [size.batch, size.keys] => {
                let expected = format!("shape ({}, {})", size.batch, size.keys);
                return Err(Error::tensor("key mask", expected, mask.shape()));
            }
            Some(mask) => Some(mask.to_dtype(q.dtype())?),
            None => None,
        };
        let bias = mask.bias.map(|bias| broadcastable(bias, size));
        let bias = bias.transpose()?.map(|bias| bias.to_dtype(q.dtype()));
        Ok(Self {
            causal: mask.causal,
            key_mask,
            bias: bias.transpose()?,
            drop: mode.stream(p).map(|stream| (p, stream)),
        })
    }
}

/// The bias with ones before its sizes.
fn broadcastable(bias: &Tensor, size: AttentionSize) -> Result<Tensor> {
    let full = [size.batch, size.heads, size.queries, size.keys];
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
