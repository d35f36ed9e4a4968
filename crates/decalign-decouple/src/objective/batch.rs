//! The input of objectives.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use crate::encoder::{Decoupled, check_count};
use crate::table::{finite_tensor, same_kind};

/// How a part with a time axis, (n, t, d), becomes a matrix; a part (n, d) is one already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeAxis {
    /// The mean over time: (n, d). It includes padding; pool padded sequences first.
    #[default]
    Mean,
    /// All steps of a sample in one row: (n, t d).
    Flatten,
    /// Every step a row: (n t, d). Steps of one sample are correlated, so rows are not independent samples.
    Steps,
}

impl TimeAxis {
    /// The matrix of `x`.
    ///
    /// # Shapes
    /// `x` (n, d) or (n, t, d); the result as the variant says.
    ///
    /// # Errors
    /// When `x` has another number of dimensions.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match (x.rank(), self) {
            (2, _) => Ok(x.clone()),
            (3, Self::Mean) => Ok(x.mean(1)?),
            (3, Self::Flatten) => Ok(x.flatten_from(1)?),
            (3, Self::Steps) => Ok(x.flatten_to(1)?),
            _ => Err(Error::tensor(
                "part",
                "shape (n, d) or (n, t, d)",
                x.shape(),
            )),
        }
    }
}

/// The parts of all modalities of one batch, and optionally the features they came from and labels.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    parts: &'a [Decoupled],
    features: Option<&'a [Tensor]>,
    labels: Option<&'a [i64]>,
}

impl<'a> Batch<'a> {
    /// The parts, one entry a modality.
    ///
    /// # Shapes
    /// (n, d) or (n, t, d), n the same for all; t may differ between modalities.
    ///
    /// # Errors
    /// When there is no modality, a shape, dtype or device differs, or an entry is not finite.
    pub fn new(parts: &'a [Decoupled]) -> Result<Self> {
        let Some(first) = parts.first().map(|p| &p.unique) else {
            let remedy = "there must be one at least";
            return Err(Error::value("number of modalities", 0, remedy));
        };
        for (i, part) in parts.iter().enumerate() {
            check(&format!("unique part of modality {i}"), &part.unique, first)?;
            let name = format!("common part of modality {i}");
            if part.common.dims() != part.unique.dims() {
                let expected = format!("its unique part's shape {:?}", part.unique.shape());
                return Err(Error::tensor(name, expected, part.common.shape()));
            }
            check(&name, &part.common, first)?;
        }
        Ok(Self {
            parts,
            features: None,
            labels: None,
        })
    }

    /// With the features that the parts came from, one tensor a modality.
    ///
    /// # Shapes
    /// Those of the parts.
    ///
    /// # Errors
    /// When there is not one a modality, or a shape, dtype or device differs from its parts'.
    pub fn with_features(self, features: &'a [Tensor]) -> Result<Self> {
        check_count("features", features.len(), self.parts.len())?;
        for (i, (x, part)) in features.iter().zip(self.parts).enumerate() {
            let name = format!("features of modality {i}");
            if x.dims() != part.unique.dims() {
                let expected = format!("its parts' shape {:?}", part.unique.shape());
                return Err(Error::tensor(name, expected, x.shape()));
            }
            check(&name, x, &part.unique)?;
        }
        Ok(Self {
            features: Some(features),
            ..self
        })
    }

    /// With the class of every sample.
    ///
    /// # Errors
    /// When there is not one a sample.
    pub fn with_labels(self, labels: &'a [i64]) -> Result<Self> {
        let n = self.parts[0].unique.dims()[0];
        if labels.len() != n {
            let remedy = format!("there must be {n}, one a sample");
            return Err(Error::value("number of labels", labels.len(), remedy));
        }
        Ok(Self {
            labels: Some(labels),
            ..self
        })
    }

    /// The parts, one entry a modality.
    pub fn parts(&self) -> &'a [Decoupled] {
        self.parts
    }

    /// The features, if they were given.
    pub fn features(&self) -> Option<&'a [Tensor]> {
        self.features
    }

    /// The labels, if they were given.
    pub fn labels(&self) -> Option<&'a [i64]> {
        self.labels
    }
}

fn check(name: &str, x: &Tensor, first: &Tensor) -> Result<()> {
    if !matches!(x.rank(), 2 | 3) || x.elem_count() == 0 {
        return Err(Error::tensor(
            name,
            "shape (n, d) or (n, t, d), not empty",
            x.shape(),
        ));
    }
    let n = first.dims()[0];
    if x.dims()[0] != n {
        let expected = format!("{n} samples, as the first modality has");
        return Err(Error::tensor(name, expected, x.shape()));
    }
    same_kind(name, x, first)?;
    finite_tensor(name, x)
}
