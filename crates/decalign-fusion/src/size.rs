//! What one attention is over, and what it leaves out.

use candle_core::Tensor;
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

/// The sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionSize {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
}

impl AttentionSize {
    /// Width of one head.
    pub(crate) fn head(self) -> usize {
        self.width / self.heads
    }

    pub(crate) fn new(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Self> {
        let (batch, queries, width) = q
            .dims3()
            .map_err(|_| Error::tensor("queries", "shape (B, L, d)", q.shape()))?;
        let (b, keys, d) = k
            .dims3()
            .map_err(|_| Error::tensor("keys", "shape (B, S, d)", k.shape()))?;
        if (b, d) != (batch, width) || k.dims() != v.dims() || keys == 0 {
            let got = (k.shape(), v.shape());
            let expected = format!("shape ({batch}, S >= 1, {width}) both");
            return Err(Error::tensor("keys and values", expected, got));
        }
        if heads == 0 || width % heads != 0 {
            return Err(Error::value(
                "heads",
                heads,
                format!("must divide the width {width}"),
            ));
        }
        Ok(Self {
            batch,
            queries,
            keys,
            width,
            heads,
        })
    }
}

/// What an attention is allowed to see, and drops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restriction {
    /// Query i sees keys 0..=i.
    pub(crate) causal: bool,
    /// (B, S), 0 where a key does not exist.
    pub(crate) key_mask: Option<Tensor>,
    /// Probability and stream of dropout on the weights.
    pub(crate) drop: Option<(f64, Stream)>,
}
