//! Comparison of the model with numbers recorded from another implementation.
//!
//! A folder holds a configuration, weights, one batch, and what another implementation computed
//! from them: outputs, losses, gradients (`grad.*`) and some optimiser steps (`trajectory.*`).
//! [`verify`] computes the same and compares. The names are upstream's, see
//! `docs/verify.md`.

mod compare;
mod files;
mod outputs;

use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::Serialize;

pub use compare::Comparison;

use crate::{Error, Result};
use files::Fixture;

/// Settings of [`verify`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifySettings {
    /// The type to compute in; that of the weights when absent.
    pub dtype: Option<DType>,
    /// The tolerance; 1e-8 in f64 and 1e-3 in f32 when absent.
    pub tolerance: Option<f64>,
    /// Judge elements whose recorded gradient is rounding too, see [`verify`].
    pub strict: bool,
    /// The file of weights; `weights.safetensors` or `weights.pth` of the folder when absent.
    pub weights: Option<PathBuf>,
}

impl VerifySettings {
    /// Computes in this type.
    pub fn dtype(self, dtype: DType) -> Self {
        let dtype = Some(dtype);
        Self { dtype, ..self }
    }

    /// Takes the weights from this file.
    pub fn weights(self, file: impl Into<PathBuf>) -> Self {
        let weights = Some(file.into());
        Self { weights, ..self }
    }
}

/// The result of [`verify`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The type it was computed in.
    pub dtype: &'static str,
    /// The tolerance each tensor was held to.
    pub tolerance: f64,
    /// True if every judged tensor is within the tolerance.
    pub holds: bool,
    /// One entry a tensor, the worst first.
    pub tensors: Vec<Comparison>,
}

/// Runs the model of a folder and compares every tensor that it expects.
///
/// A tensor holds when `max|got - want| <= tolerance * max(max|want|, 1e-3)`.
///
/// Adam turns the rounding of a gradient that is zero in theory into steps, and weight decay
/// makes them grow by `learning_rate * weight_decay / 1e-8` a step: such numbers are those of one
/// machine and no property of the model. In f32, `trajectory.*` is therefore compared but not
/// judged. In f64, where every other number can be held to, only those elements of
/// `trajectory.param.*` are left out whose recorded gradient is rounding: below 1e-13 of the
/// largest of its tensor and not 0. These are the biases of attention's keys, which the softmax
/// does not see. Their number and error are in the report.
///
/// # Errors
/// When a file is missing or does not fit the others; a tensor that differs is not an error.
pub fn verify(folder: impl AsRef<Path>, settings: &VerifySettings) -> Result<VerifyReport> {
    let folder = folder.as_ref();
    let fixture = Fixture::open(folder, settings)?;
    let (dtype, default_tolerance) = match fixture.dtype {
        DType::F64 => ("f64", 1e-8),
        _ => ("f32", 1e-3),
    };
    let tolerance = settings.tolerance.unwrap_or(default_tolerance);
    if tolerance.is_nan() || tolerance <= 0.0 {
        return Err(Error::invalid(format!(
            "tolerance {tolerance} must be positive"
        )));
    }
    let got = outputs::compute(&fixture)?;
    let judged = |name: &str| fixture.dtype == DType::F64 || !name.starts_with("trajectory.");
    let mut tensors = Vec::with_capacity(fixture.expected.len());
    for (name, want) in &fixture.expected {
        let gradient = name
            .strip_prefix("trajectory.param.")
            .filter(|_| !settings.strict)
            .and_then(|parameter| fixture.expected.get(&format!("grad.{parameter}")));
        let got = got.get(name);
        tensors.push(Comparison::new(
            name,
            got,
            want,
            gradient,
            tolerance,
            judged(name),
        )?);
    }
    tensors.sort_by(|a, b| {
        b.judged
            .cmp(&a.judged)
            .then(a.holds.cmp(&b.holds))
            .then(b.relative.total_cmp(&a.relative))
    });
    let holds = tensors.iter().all(|c| c.holds || !c.judged);
    Ok(VerifyReport {
        dtype,
        tolerance,
        holds,
        tensors,
    })
}
