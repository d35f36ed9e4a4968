//! One modality's sequences.

use candle_core::Tensor;
use decalign_core::{Error, Result};

/// One modality's sequences, and which of their steps exist.
#[derive(Clone, Debug)]
pub struct MaskedSequence {
    /// (B, T, d).
    pub features: Tensor,
    /// (B, T), 0 where a step does not exist; `None` when all do.
    pub mask: Option<Tensor>,
}

impl MaskedSequence {
    /// Sequences of which every step exists.
    pub fn new(features: Tensor) -> Self {
        Self {
            features,
            mask: None,
        }
    }

    /// Sequences of which the mask (B, T) says what exists.
    pub fn masked(features: Tensor, mask: Tensor) -> Self {
        Self {
            features,
            mask: Some(mask),
        }
    }

    /// An error unless these are sequences of a width, and the mask is theirs.
    pub(crate) fn check(&self, width: usize) -> Result<()> {
        let x = &self.features;
        let dims = x.dims();
        if dims.len() != 3 || dims[2] != width || dims[1] == 0 {
            let expected = format!("shape (B, T >= 1, {width})");
            return Err(Error::tensor("sequence", expected, x.shape()));
        }
        match &self.mask {
            Some(mask) if mask.dims() != &dims[..2] => {
                let expected = format!("shape {:?}, that of the steps", &dims[..2]);
                Err(Error::tensor("sequence mask", expected, mask.shape()))
            }
            _ => Ok(()),
        }
    }

    /// The mask in the type of the features, ones where there is none.
    pub(crate) fn whole_mask(&self) -> Result<Tensor> {
        let x = &self.features;
        match &self.mask {
            Some(mask) => Ok(mask.to_dtype(x.dtype())?),
            None => Ok(Tensor::ones((x.dim(0)?, x.dim(1)?), x.dtype(), x.device())?),
        }
    }

    /// Masks one after the other along time; none where every step exists.
    pub(crate) fn joined_mask(streams: &[MaskedSequence]) -> Result<Option<Tensor>> {
        if streams.iter().all(|s| s.mask.is_none()) {
            return Ok(None);
        }
        let masks = streams.iter().map(Self::whole_mask);
        let masks = masks.collect::<Result<Vec<_>>>()?;
        Ok(Some(Tensor::cat(&masks, 1)?))
    }
}
