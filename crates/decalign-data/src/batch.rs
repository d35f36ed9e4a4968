//! Batches: samples of a data set as tensors.

use candle_core::{DType, Device, Tensor};

use crate::{Dataset, Labels, Modality, Result};

/// One modality of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sequence {
    /// (B, T, D).
    pub features: Tensor,
    /// (B, T): 1 for steps that exist, 0 for those that do not; all exist when `None`.
    pub mask: Option<Tensor>,
}

impl Sequence {
    /// Features (B, T, D), and the mask (B, T) of the steps that exist.
    pub fn new(features: Tensor, mask: Option<Tensor>) -> Self {
        Self { features, mask }
    }
}

/// The samples of a training step: the input of a model, and the labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch {
    /// One entry a modality, in the order of the data set.
    pub sequences: Vec<Sequence>,
    /// Scores (B, 1), or classes (B) as u32.
    pub labels: Option<Tensor>,
    /// The indices of the samples in the data set.
    pub rows: Vec<usize>,
}

impl Dataset {
    /// The samples `rows` as a batch with floating numbers of the given type.
    ///
    /// # Errors
    /// When a row does not exist or the device cannot hold the batch.
    pub fn batch(&self, rows: &[usize], dtype: DType, device: &Device) -> Result<Batch> {
        if let Some(row) = rows.iter().find(|row| **row >= self.len()) {
            return Err(self.error(
                "rows",
                format!("sample {row} does not exist; there are {}", self.len()),
            ));
        }
        let sequence = |modality: &Modality| -> Result<Sequence> {
            let shape = (rows.len(), modality.steps(), modality.width());
            let features = modality.source().gather(rows)?;
            let features = Tensor::from_vec(features, shape, &Device::Cpu)?.to_dtype(dtype)?;
            let mask = modality
                .lengths()
                .map(|lengths| mask(lengths, rows, modality.steps()));
            let place = |x: Tensor| x.to_dtype(dtype)?.to_device(device);
            Ok(Sequence {
                features: features.to_device(device)?,
                mask: mask.transpose()?.map(place).transpose()?,
            })
        };
        Ok(Batch {
            sequences: self
                .modalities()
                .iter()
                .map(sequence)
                .collect::<Result<_>>()?,
            labels: self
                .labels()
                .map(|labels| gather(labels, rows, dtype, device))
                .transpose()?,
            rows: rows.to_vec(),
        })
    }
}

fn mask(lengths: &[usize], rows: &[usize], steps: usize) -> Result<Tensor> {
    let exists = |row: &usize| {
        let length = lengths[*row];
        (0..steps).map(move |t| f32::from(u8::from(t < length)))
    };
    let mask: Vec<f32> = rows.iter().flat_map(exists).collect();
    Ok(Tensor::from_vec(mask, (rows.len(), steps), &Device::Cpu)?)
}

fn gather(labels: &Labels, rows: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(match labels {
        Labels::Scores(values) => {
            let values: Vec<f32> = rows.iter().map(|row| values[*row]).collect();
            Tensor::from_vec(values, (rows.len(), 1), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)?
        }
        Labels::Classes { values, .. } => {
            let values: Vec<u32> = rows.iter().map(|row| values[*row]).collect();
            Tensor::new(values, device)?
        }
    })
}
