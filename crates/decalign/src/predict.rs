//! Predictions from a checkpoint.

use candle_core::Device;
use decalign_data::Dataset;

use crate::checkpoint::Checkpoint;
use crate::metrics::{Benchmark, Metrics};
use crate::model::DecAlign;
use crate::{Error, Result, preprocess, train};

/// A trained model, ready to predict.
///
/// ```no_run
/// use candle_core::Device;
/// use decalign::{Checkpoint, Predictor};
/// use decalign_data::Dataset;
///
/// let predictor = Predictor::new(Checkpoint::open("runs/mfeat/best.safetensors")?, &Device::Cpu)?;
/// let data = Dataset::open("mine.safetensors")?;
/// let rows: Vec<usize> = (0..data.len()).collect();
/// for i in 0..rows.len() {
///     println!("{:?}", predictor.predict(&data, &rows)?.label(i));
/// }
/// # Ok::<(), decalign::Error>(())
/// ```
#[derive(Debug)]
pub struct Predictor {
    checkpoint: Checkpoint,
    model: DecAlign,
    benchmark: Benchmark,
    device: Device,
}

/// Predictions of some samples.
#[derive(Clone, Debug)]
pub struct Predictions {
    scores: Vec<f32>,
    classes: Vec<String>,
    width: usize,
}

impl Predictor {
    /// A predictor on a device.
    ///
    /// # Errors
    /// When the checkpoint's configuration and weights do not fit one another.
    pub fn new(checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        let model = checkpoint.model(device)?;
        let benchmark = checkpoint.config.resolve_alone()?.benchmark();
        Ok(Self {
            checkpoint,
            model,
            benchmark,
            device: device.clone(),
        })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Predicts the samples `rows` of a data set. Labels are not needed.
    ///
    /// # Errors
    /// When a modality is missing, has another width than in training, or is not finite.
    pub fn predict(&self, data: &Dataset, rows: &[usize]) -> Result<Predictions> {
        let data = self.prepare(data)?;
        let dtype = self.model.parameters().dtype();
        let batch = (self.checkpoint.config.batch_size, dtype, &self.device);
        let (scores, _) = train::predict(&self.model, &data, rows, batch, None)?;
        let classes = self.checkpoint.classes.clone();
        Ok(Predictions::new(
            scores,
            classes,
            self.model.config().outputs,
        ))
    }

    /// The benchmark that gives the metrics.
    pub fn benchmark(&self) -> Benchmark {
        self.benchmark
    }

    /// The benchmark's metrics on the samples `rows`.
    ///
    /// # Errors
    /// As [`Predictor::predict`], and when the data has no labels or labels of another kind.
    pub fn evaluate(&self, data: &Dataset, rows: &[usize]) -> Result<Metrics> {
        let (predictions, labels) = self.predict_with_labels(data, rows)?;
        Ok(self.benchmark.evaluate(&predictions.scores, &labels))
    }

    /// Predictions and labels of the samples `rows`.
    ///
    /// # Errors
    /// As [`Predictor::evaluate`].
    pub fn predict_with_labels(
        &self,
        data: &Dataset,
        rows: &[usize],
    ) -> Result<(Predictions, Vec<f32>)> {
        let Some(labels) = data.labels() else {
            return Err(Error::invalid(format!(
                "{}: labels: missing, nothing to evaluate against",
                data.origin()
            )));
        };
        // The labels must be of the kind that the model was trained on.
        self.checkpoint
            .config
            .clone()
            .fit_labels(labels, data.origin())?;
        Ok((self.predict(data, rows)?, preprocess::labels(data, rows)))
    }

    /// Selects, checks and standardises the data for the model.
    fn prepare(&self, data: &Dataset) -> Result<Dataset> {
        let config = &self.checkpoint.config;
        let data = preprocess::select(data, config)?;
        for (modality, expected) in data
            .modalities()
            .iter()
            .zip(&self.model.config().modalities)
        {
            let numbers = config.has_features(modality.name());
            if numbers && modality.width() != expected.width {
                return Err(Error::invalid(format!(
                    "{}: {}: {} features a step, the checkpoint was trained with {}",
                    data.origin(),
                    modality.name(),
                    modality.width(),
                    expected.width
                )));
            }
        }
        Ok(preprocess::standardize(&data, self.checkpoint.standardizer.as_ref())?.into_owned())
    }
}

impl Predictions {
    /// `width` scores a sample: one, or one a class of the given names.
    pub(crate) fn new(scores: Vec<f32>, classes: Vec<String>, width: usize) -> Self {
        Self {
            scores,
            classes,
            width,
        }
    }

    /// The scores of all samples in order.
    pub fn all_scores(&self) -> &[f32] {
        &self.scores
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.scores.len() / self.width.max(1)
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The score of sample `i`, or its logits, one a class.
    pub fn scores(&self, i: usize) -> &[f32] {
        &self.scores[i * self.width..(i + 1) * self.width]
    }

    /// The names of the classes; none for scores.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The most likely class of sample `i`; `None` for scores.
    pub fn label(&self, i: usize) -> Option<&str> {
        let probabilities = self.probabilities(i)?;
        let mut best = 0;
        for (class, p) in probabilities.iter().enumerate() {
            if *p > probabilities[best] {
                best = class;
            }
        }
        self.classes.get(best).map(String::as_str)
    }

    /// The probabilities of the classes of sample `i`; `None` for scores.
    pub fn probabilities(&self, i: usize) -> Option<Vec<f32>> {
        if self.classes.is_empty() {
            return None;
        }
        let scores = self.scores(i);
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f32 = exps.iter().sum();
        Some(exps.into_iter().map(|e| e / sum).collect())
    }
}
