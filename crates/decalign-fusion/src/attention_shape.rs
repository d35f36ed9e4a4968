//! The shape of one attention.

use candle_core::Tensor;
use decalign_core::{Error, Result};

/// The sizes of one attention, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    /// Width of queries and keys, all heads together.
    pub(crate) width: usize,
    /// Width of values and results, all heads together.
    pub(crate) value_width: usize,
    pub(crate) heads: usize,
}

impl AttentionShape {
    /// Width of one head's queries and keys.
    pub(crate) fn head(self) -> usize {
        self.width / self.heads
    }

    /// Width of one head's values.
    pub(crate) fn value_head(self) -> usize {
        self.value_width / self.heads
    }

    /// Without values their width is that of the keys.
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

/// An error unless `heads` divides `width`.
pub(crate) fn check_heads(heads: usize, width: usize) -> Result<()> {
    if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
        let remedy = format!("must be at least 1 and divide the width {width}");
        return Err(Error::value("heads", heads, remedy));
    }
    Ok(())
}
