//! Detection and replacement of NaN and infinities.

use std::fmt;

use candle_core::Tensor;

use crate::features::elements;
use crate::{Dataset, Error, Result};

/// The NaN and infinities of a modality.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NonFinite {
    /// The modality.
    pub modality: String,
    /// The number of NaN and infinities.
    pub count: usize,
    /// Sample, step and feature of the first, counted from 0.
    pub first: (usize, usize, usize),
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sample, step, feature) = self.first;
        write!(
            f,
            "{} NaN or infinite, the first at sample {sample}, step {step}, feature {feature}",
            self.count
        )
    }
}

impl Dataset {
    /// The modalities that have NaN or infinities.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn non_finite(&self) -> Result<Vec<NonFinite>> {
        let mut found = Vec::new();
        for modality in self.modalities() {
            if let Some((first, count)) = modality.source().non_finite()? {
                let (steps, width) = (modality.steps(), modality.width());
                found.push(NonFinite {
                    modality: modality.name().to_owned(),
                    count,
                    first: (
                        first / (steps * width),
                        first / width % steps,
                        first % width,
                    ),
                });
            }
        }
        Ok(found)
    }

    /// Checks that all features are finite.
    ///
    /// # Errors
    /// When a feature is NaN or infinite; the message gives the number and the first place.
    pub fn check_finite(&self) -> Result<()> {
        match self.non_finite()?.first() {
            None => Ok(()),
            Some(bad) => {
                let message = format!("{bad}; set replace_non_finite=true to take them as 0");
                Err(Error::field(self.origin(), &bad.modality, message))
            }
        }
    }

    /// The data set with 0 in place of every NaN and infinity.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn replace_non_finite(&self) -> Result<Self> {
        let bad = self.non_finite()?;
        self.map_features(|modality| {
            if bad.iter().all(|bad| bad.modality != modality.name()) {
                return Ok(None);
            }
            let features = modality.features();
            let numbers = elements(features)?;
            let clean: Vec<f32> = numbers
                .iter()
                .map(|v| if v.is_finite() { *v } else { 0.0 })
                .collect();
            let clean = Tensor::from_vec(clean, features.shape(), features.device())?;
            Ok(Some(clean))
        })
    }
}
