//! Missing modalities, sample by sample.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use crate::masked_sequence::MaskedSequence;

/// Which samples have which modality: (B, M), 0 where one is missing.
///
/// A missing modality is not attended to, not encoded (its result is zeros) and not pooled; its features, even NaN, reach neither results
/// nor gradients.
#[derive(Clone, Debug)]
pub struct Presence {
    /// For each modality which samples have it, (B); none if all have it.
    columns: Vec<Option<Tensor>>,
}

impl Presence {
    /// Every sample has all of this many modalities.
    pub fn all(modalities: usize) -> Self {
        Self {
            columns: vec![None; modalities],
        }
    }

    /// From a mask (B, M), 0 where a sample lacks a modality.
    ///
    /// # Errors
    /// When the mask is not a matrix.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_fusion::Presence;
    /// // The second sample has no audio.
    /// let presence = Presence::new(&Tensor::new(&[[1f32, 1.0], [1.0, 0.0]], &Device::Cpu)?)?;
    /// assert!(presence.column(0).is_none() && presence.column(1).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(mask: &Tensor) -> Result<Self> {
        if mask.rank() != 2 {
            return Err(Error::tensor(
                "presence",
                "shape (B, modalities)",
                mask.shape(),
            ));
        }
        let rows = mask.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let there = |m: usize| -> Vec<u8> { rows.iter().map(|r| u8::from(r[m] != 0.0)).collect() };
        let column = |m: usize| match there(m) {
            there if there.contains(&0) => {
                let n = there.len();
                Ok(Some(Tensor::from_vec(there, n, mask.device())?))
            }
            _ => Ok(None),
        };
        let columns = (0..mask.dim(1)?).map(column).collect::<Result<_>>()?;
        Ok(Self { columns })
    }

    /// The number of modalities.
    pub fn modalities(&self) -> usize {
        self.columns.len()
    }

    /// Which samples have modality `m`, (B) of u8; none where all have it.
    pub fn column(&self, m: usize) -> Option<&Tensor> {
        self.columns.get(m)?.as_ref()
    }

    /// `x` (B, ...) of modality `m`, zeros for samples that lack it, without a gradient from them.
    ///
    /// # Errors
    /// When the batch is not that of the mask.
    pub fn keep(&self, m: usize, x: &Tensor) -> Result<Tensor> {
        let Some(column) = self.column(m) else {
            return Ok(x.clone());
        };
        let batch = column.elem_count();
        if x.rank() == 0 || x.dims()[0] != batch {
            let expected = format!("shape ({batch}, ...), the batch of the presence");
            return Err(Error::tensor(format!("modality {m}"), expected, x.shape()));
        }
        let mut dims = vec![1; x.rank()];
        dims[0] = batch;
        let there = column.reshape(dims)?.broadcast_as(x.shape())?;
        Ok(there
            .contiguous()?
            .where_cond(x, &x.zeros_like()?.detach())?)
    }

    /// A sequence of modality `m`, without steps for samples that lack it.
    pub(crate) fn limit(&self, m: usize, sequence: &MaskedSequence) -> Result<MaskedSequence> {
        if self.column(m).is_none() {
            return Ok(sequence.clone());
        }
        Ok(MaskedSequence::masked(
            self.keep(m, &sequence.features)?,
            self.keep(m, &sequence.whole_mask()?)?,
        ))
    }
}
