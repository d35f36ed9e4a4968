//! From a data set as it is to what a model takes.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use decalign_data::{Dataset, Standardizer};

use crate::Result;
use crate::config::Config;
use crate::objective::{numbers, scalar};
use crate::train::Model;
use decalign_core::nn::Mode;
use decalign_core::op::without_gradients;

/// The modalities of the configuration, without NaN and infinities; with a text encoder in the model, text as the data's
/// tokens, where it has some.
pub(crate) fn select(data: &Dataset, config: &Config) -> Result<Dataset> {
    let mut data = data.clone();
    if config.use_bert && data.tokens().is_some() {
        data = data.with_token_modality()?;
    }
    if let Some(names) = &config.modalities {
        data = data.select(names)?;
    }
    match config.replace_non_finite {
        true => Ok(data.replace_non_finite()?),
        false => {
            data.check_finite()?;
            Ok(data)
        }
    }
}

/// The standardisation that a configuration asks for, fitted to the samples `rows`.
pub(crate) fn standardizer(
    data: &Dataset,
    rows: &[usize],
    config: &Config,
) -> Result<Option<Standardizer>> {
    if !config.need_feature_standardized {
        return Ok(None);
    }
    let listed = &config.feature_standardize_modalities;
    let wanted = |name: &str| {
        let listed = listed.as_ref();
        config.has_features(name) && listed.is_none_or(|list| list.iter().any(|l| l == name))
    };
    let percentiles = config.feature_clip_percentiles.unwrap_or((0.0, 100.0));
    Ok(Some(Standardizer::fit(data, rows, percentiles, wanted)?))
}

/// Standardises, where there is something to standardise by.
pub(crate) fn standardize<'a>(
    data: &'a Dataset,
    standardizer: Option<&Standardizer>,
) -> Result<Cow<'a, Dataset>> {
    Ok(match standardizer {
        Some(standardizer) => Cow::Owned(standardizer.apply(data)?),
        None => Cow::Borrowed(data),
    })
}

/// What a model makes of some samples.
pub(crate) struct Evaluated {
    /// The predictions, sample by sample.
    pub(crate) predictions: Vec<f32>,
    /// Mean over batches of the task loss, the last, smaller batch counting as much; 0 where there
    /// is none.
    pub(crate) loss: f64,
}

/// The loss of predictions, given labels.
pub(crate) type TaskLoss<'a> = dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + 'a;

/// Runs a model over samples in their order, in batches of the given size, type and device.
pub(crate) fn evaluate<M: Model>(
    model: &M,
    data: &Dataset,
    rows: &[usize],
    (batch_size, dtype, device): (usize, DType, &Device),
    task: Option<&TaskLoss<'_>>,
) -> Result<Evaluated> {
    let mut predictions = Vec::new();
    let (mut loss, mut batches) = (0.0, 0usize);
    for rows in rows.chunks(batch_size.max(1)) {
        let batch = data.batch(rows, dtype, device)?;
        let forward = || model.forward(&batch.sequences, Mode::Inference);
        let output = without_gradients(forward)?;
        let prediction = model.prediction(&output);
        predictions.extend(numbers(prediction)?.into_iter().map(|v| v as f32));
        if let (Some(task), Some(labels)) = (task, &batch.labels) {
            loss += scalar(&task(prediction, labels)?)?;
        }
        batches += 1;
    }
    Ok(Evaluated {
        predictions,
        loss: loss / batches.max(1) as f64,
    })
}

/// The labels of some samples as numbers.
pub(crate) fn labels(data: &Dataset, rows: &[usize]) -> Vec<f32> {
    match data.labels() {
        Some(decalign_data::Labels::Scores(values)) => rows.iter().map(|r| values[*r]).collect(),
        Some(decalign_data::Labels::Classes { values, .. }) => {
            rows.iter().map(|r| values[*r] as f32).collect()
        }
        None => Vec::new(),
    }
}
