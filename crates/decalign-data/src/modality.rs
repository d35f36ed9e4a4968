//! One modality: a name, its features, and how many steps of each sample exist.

use std::ops::Range;

use candle_core::{DType, Tensor};
use decalign_core::parallel;

use crate::array::Array;
use crate::features::Features;
use crate::{Error, Result};

/// One modality of a data set: features (N, T, D) and the lengths of the N sequences.
#[derive(Clone, Debug)]
pub struct Modality {
    name: String,
    features: Features,
    lengths: Option<Vec<usize>>,
}

/// The kinds of modality that settings and orders distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ModalityKind {
    /// A name that begins with `text`: text dropout, and the text encoder's tokens.
    Text,
    /// A name that begins with `audio`.
    Audio,
    /// A name that begins with `vision`.
    Vision,
    /// Any other name.
    Other,
}

impl ModalityKind {
    /// The kind of a modality by its name.
    pub fn of(name: &str) -> Self {
        match name {
            name if name.starts_with("text") => Self::Text,
            name if name.starts_with("audio") => Self::Audio,
            name if name.starts_with("vision") => Self::Vision,
            _ => Self::Other,
        }
    }
}

impl Modality {
    /// A modality of the given name.
    ///
    /// # Shapes
    /// `features`: (N, D), one step a sample, or (N, T, D), of any floating type, kept as f32.
    /// `lengths`: N numbers from 0 (the sample lacks this modality) to T; `None` when all steps exist.
    ///
    /// # Errors
    /// When a shape or type is another, or a length exceeds T.
    pub fn new(
        name: impl Into<String>,
        features: &Tensor,
        lengths: Option<Vec<usize>>,
    ) -> Result<Self> {
        let name = name.into();
        let invalid = |message| Error::field("modality", &name, message);
        if !features.dtype().is_float() {
            let dtype = features.dtype();
            return Err(invalid(format!("expected floating numbers, got {dtype:?}")));
        }
        let features = match features.rank() {
            2 => features.unsqueeze(1)?,
            3 => features.clone(),
            _ => {
                let shape = features.shape();
                let message = format!("expected shape (N, D) or (N, T, D), got {shape:?}");
                return Err(invalid(message));
            }
        };
        let (n, steps, width) = features.dims3()?;
        if n * steps * width == 0 {
            return Err(invalid(format!("shape {:?} is empty", features.shape())));
        }
        check_lengths(lengths.as_deref(), n, steps, invalid)?;
        let features = Features::Held(features.to_dtype(DType::F32)?.contiguous()?);
        Ok(Self {
            name,
            features,
            lengths,
        })
    }

    /// A modality of consecutive arrays (n, D) or (n, T, D), whose elements are read on demand.
    pub(crate) fn stored(
        name: &str,
        blocks: Vec<Array>,
        lengths: Option<Vec<usize>>,
        origin: &str,
    ) -> Result<Self> {
        let invalid = |message| Error::field(origin, name, message);
        let features = Features::stored(blocks, invalid)?;
        let (n, steps, _) = features.dims();
        check_lengths(lengths.as_deref(), n, steps, invalid)?;
        Ok(Self {
            name: name.to_owned(),
            features,
            lengths,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// (N, T, D) in f32. Features in a file are read at the first call and kept in memory.
    pub fn features(&self) -> &Tensor {
        self.features.tensor()
    }

    /// The features without reading them.
    pub(crate) fn source(&self) -> &Features {
        &self.features
    }

    pub(crate) fn set_features(&mut self, features: Tensor) {
        self.features = Features::Held(features);
    }

    /// Replaces the lengths; `origin` stands in the error.
    pub(crate) fn set_lengths(&mut self, lengths: Option<Vec<usize>>, origin: &str) -> Result<()> {
        let invalid = |message| Error::field(origin, format!("lengths.{}", self.name), message);
        check_lengths(lengths.as_deref(), self.samples(), self.steps(), invalid)?;
        self.lengths = lengths;
        Ok(())
    }

    /// The mean over the existing steps of each of the samples `rows`: D numbers a sample, 0 for a sample without a
    /// step. Only these samples are read.
    ///
    /// # Errors
    /// When a row does not exist.
    pub fn mean_over_steps(&self, rows: &[usize]) -> Result<Vec<f64>> {
        let (n, steps, width) = self.features.dims();
        if let Some(row) = rows.iter().find(|row| **row >= n) {
            let message = format!("sample {row} does not exist; there are {n}");
            return Err(Error::field("modality", &self.name, message));
        }
        let chunks: Vec<&[usize]> = rows.chunks(16).collect();
        let pooled = parallel::map(chunks.len(), rows.len() * steps * width, |i| {
            let mut means = vec![0.0; chunks[i].len() * width];
            for (row, mean) in chunks[i].iter().zip(means.chunks_exact_mut(width)) {
                let length = self.lengths.as_ref().map_or(steps, |lengths| lengths[*row]);
                let sample = self.features.sample(*row)?;
                for step in sample.chunks_exact(width).take(length) {
                    for (mean, v) in mean.iter_mut().zip(step) {
                        *mean += f64::from(*v);
                    }
                }
                mean.iter_mut().for_each(|v| *v /= length.max(1) as f64);
            }
            Ok(means)
        });
        let pooled = pooled.into_iter().collect::<Result<Vec<Vec<f64>>>>()?;
        Ok(pooled.concat())
    }

    /// The results of `f` for every chunk of samples: it is given a range of samples and their features.
    ///
    /// Threads share the work; results are in the order of the samples, and the chunks depend on the shape alone.
    /// Features in a file are read from there and not kept.
    ///
    /// # Errors
    /// When the features cannot be read.
    ///
    /// ```
    /// let digits = decalign_data::Dataset::mfeat()?;
    /// let counts = digits.modalities()[0].map_chunks(|samples, numbers| (samples.len(), numbers.len()))?;
    /// assert_eq!(counts.iter().map(|(samples, _)| samples).sum::<usize>(), 2000);
    /// # Ok::<(), decalign_data::Error>(())
    /// ```
    pub fn map_chunks<R: Send>(
        &self,
        f: impl Fn(Range<usize>, &[f32]) -> R + Sync + Send,
    ) -> Result<Vec<R>> {
        self.features.map_chunks(f)
    }

    /// How many steps of each sample exist; all T of them when `None`.
    pub fn lengths(&self) -> Option<&[usize]> {
        self.lengths.as_deref()
    }

    /// N, the number of samples.
    pub fn samples(&self) -> usize {
        self.features.dims().0
    }

    /// T, the number of steps.
    pub fn steps(&self) -> usize {
        self.features.dims().1
    }

    /// D, the number of features a step.
    pub fn width(&self) -> usize {
        self.features.dims().2
    }
}

fn check_lengths(
    lengths: Option<&[usize]>,
    n: usize,
    steps: usize,
    invalid: impl Fn(String) -> Error,
) -> Result<()> {
    let Some(lengths) = lengths else {
        return Ok(());
    };
    if lengths.len() != n {
        return Err(invalid(format!(
            "{} lengths for {n} samples",
            lengths.len()
        )));
    }
    match lengths.iter().position(|l| *l > steps) {
        Some(i) => {
            let message = format!(
                "length {} of sample {i} is above the {steps} steps there are",
                lengths[i]
            );
            Err(invalid(message))
        }
        None => Ok(()),
    }
}
