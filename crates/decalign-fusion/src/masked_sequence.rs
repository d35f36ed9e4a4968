//! The sequences of one modality.

use candle_core::Tensor;
use decalign_core::{Error, Result};

/// The sequences of one modality, and which of their steps exist.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MaskedSequence {
    /// (B, T, d).
    pub features: Tensor,
    /// (B, T), 0 where a step does not exist; `None` when all do.
    pub mask: Option<Tensor>,
}

impl MaskedSequence {
    /// Sequences whose steps all exist.
    pub fn new(features: Tensor) -> Self {
        Self {
            features,
            mask: None,
        }
    }

    /// Sequences with a mask (B, T), 0 where a step does not exist; without one all exist.
    pub fn masked(features: Tensor, mask: impl Into<Option<Tensor>>) -> Self {
        Self {
            features,
            mask: mask.into(),
        }
    }

    /// An error unless the features have this width and the mask fits them.
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

    /// The mask in the dtype of the features; ones if there is none.
    pub(crate) fn whole_mask(&self) -> Result<Tensor> {
        let x = &self.features;
        match &self.mask {
            Some(mask) => Ok(mask.to_dtype(x.dtype())?),
            None => Ok(Tensor::ones((x.dim(0)?, x.dim(1)?), x.dtype(), x.device())?),
        }
    }

    /// Masks concatenated along time; none if every step exists.
    pub(crate) fn joined_mask(sequences: &[MaskedSequence]) -> Result<Option<Tensor>> {
        if sequences.iter().all(|s| s.mask.is_none()) {
            return Ok(None);
        }
        let masks = sequences.iter().map(Self::whole_mask);
        let masks = masks.collect::<Result<Vec<_>>>()?;
        Ok(Some(Tensor::cat(&masks, 1)?))
    }
}
