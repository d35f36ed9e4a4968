//! Predictions, loss and metrics of a model on some samples.

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::Mode;
use decalign_core::op::without_gradients;
use decalign_data::Dataset;
use serde::Serialize;

use super::Model;
use crate::Result;
use crate::metrics::Metrics;
use decalign_core::tensor_convert::{scalar, to_f64s};

/// Predictions and metrics of a model on some samples.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The samples by their number in the data set.
    pub rows: Vec<usize>,
    /// Their predictions: one score each, or one logit per class each.
    pub predictions: Vec<f32>,
    /// Their labels.
    pub labels: Vec<f32>,
    /// The benchmark's metrics.
    pub metrics: Metrics,
}

/// How the losses of batches become the loss of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossAverage {
    /// The mean over batches: a smaller last batch counts as much as the others.
    #[default]
    Batches,
    /// The mean over samples: every batch counts by its size.
    Samples,
}

/// The loss of predictions, given labels.
pub(crate) type TaskLoss<'a> = dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + 'a;

/// Runs a model over samples in their order, in batches of the given size, dtype and device. Returns the predictions
/// and the average task loss, which is 0 without a loss or labels.
pub(crate) fn predict<M: Model>(
    model: &M,
    data: &Dataset,
    rows: &[usize],
    (batch_size, dtype, device): (usize, DType, &Device),
    loss: Option<(&TaskLoss<'_>, LossAverage)>,
) -> Result<(Vec<f32>, f64)> {
    let mut predictions = Vec::new();
    let (mut total, mut batches) = (0.0, 0usize);
    for chunk in rows.chunks(batch_size.max(1)) {
        let batch = data.batch(chunk, dtype, device)?;
        let forward = || model.prediction(&model.forward(&batch.sequences, Mode::Inference)?);
        let prediction = without_gradients(forward)?;
        predictions.extend(to_f64s(&prediction)?.into_iter().map(|v| v as f32));
        if let (Some((task, average)), Some(labels)) = (loss, &batch.labels) {
            let each = scalar(&task(&prediction, labels)?)?;
            total += match average {
                LossAverage::Batches => each,
                LossAverage::Samples => each * chunk.len() as f64 / rows.len() as f64,
            };
        }
        batches += 1;
    }
    match loss {
        Some((_, LossAverage::Samples)) => Ok((predictions, total)),
        _ => Ok((predictions, total / batches.max(1) as f64)),
    }
}
