//! Losses on devices: the value and its slopes together.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record_one;

use crate::config::RegressionLoss;

/// Lanes a group.
const LANES: usize = 256;
/// Lanes a row of a batch.
const ROW_LANES: usize = 128;

pub(crate) fn losses_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("losses", include_str!("losses.cu"), dtype)?.lanes(LANES))
}

pub(crate) fn contrastive_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("contrastive", include_str!("contrastive.cu"), dtype)?.lanes(ROW_LANES))
}

/// Labels of any type as numbers of the prediction's, on its device.
fn beside(labels: &Tensor, prediction: &Tensor) -> Result<Tensor> {
    let labels = labels.to_device(prediction.device())?;
    Ok(labels.to_dtype(prediction.dtype())?)
}

/// Records a loss whose slopes are known with its value.
fn record(name: &'static str, x: &Tensor, value: Memory, slopes: Memory) -> Result<Tensor> {
    let slopes = slopes.into_tensor();
    record_one(name, &[x], value.into(), move |b| {
        Ok(vec![Some(slopes.broadcast_mul(&b.gradient(0)?)?)])
    })
}

/// Memory for a value, and for slopes in the shape of `x`.
fn outputs(backend: &Backend, x: &Tensor) -> Result<[Memory; 2]> {
    Ok([
        Memory::new(backend, x.dtype(), ())?,
        Memory::new(backend, x.dtype(), x.shape())?,
    ])
}

/// See [`super::regression_loss`].
pub(super) fn regression(
    backend: &Backend,
    prediction: &Tensor,
    labels: &Tensor,
    kind: RegressionLoss,
) -> Result<Tensor> {
    let program = losses_program(prediction.dtype())?;
    let [mut value, mut slopes] = outputs(backend, prediction)?;
    let (kind, beta) = match kind {
        RegressionLoss::Mae => (0, 1.0),
        RegressionLoss::Mse => (1, 1.0),
        RegressionLoss::SmoothL1 { beta } => (2, beta),
    };
    Launch::new(&program, "regression", 1)
        .input(prediction)?
        .input(&beside(labels, prediction)?)?
        .output(&mut value)
        .output(&mut slopes)
        .count(prediction.elem_count())?
        .count(kind)?
        .real(beta)
        .run(backend)?;
    record("task_loss", prediction, value, slopes)
}

/// See [`super::sign_loss`].
pub(super) fn sign(backend: &Backend, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let program = losses_program(prediction.dtype())?;
    let [mut value, mut slopes] = outputs(backend, prediction)?;
    Launch::new(&program, "sign_loss", 1)
        .input(prediction)?
        .input(&beside(labels, prediction)?)?
        .output(&mut value)
        .output(&mut slopes)
        .count(prediction.elem_count())?
        .run(backend)?;
    record("task_loss", prediction, value, slopes)
}

/// See [`super::cross_entropy`]; NaN where a class is out of range.
pub(super) fn cross_entropy(
    backend: &Backend,
    logits: &Tensor,
    labels: &Tensor,
    weights: Option<&[f64]>,
) -> Result<Tensor> {
    let (batch, classes) = logits.dims2()?;
    let program = losses_program(logits.dtype())?;
    let [mut value, mut slopes] = outputs(backend, logits)?;
    let table = match weights {
        Some(weights) => {
            let mut weights = weights.to_vec();
            weights.resize(classes, 1.0);
            Tensor::from_vec(weights, classes, &candle_core::Device::Cpu)?
                .to_dtype(logits.dtype())?
                .to_device(logits.device())?
        }
        // Not read.
        None => logits.clone(),
    };
    Launch::new(&program, "cross_entropy", 1)
        .input(logits)?
        .input(&beside(labels, logits)?)?
        .input(&table)?
        .output(&mut value)
        .output(&mut slopes)
        .count(batch)?
        .count(classes)?
        .count(usize::from(weights.is_some()))?
        .run(backend)?;
    record("task_loss", logits, value, slopes)
}

/// See [`super::supervised_contrastive`]; `rounded` says that labels are scores.
pub(super) fn contrastive(
    backend: &Backend,
    representation: &Tensor,
    labels: &Tensor,
    rounded: bool,
    temperature: f64,
) -> Result<Tensor> {
    let (batch, width) = representation.dims2()?;
    let program = contrastive_program(representation.dtype())?;
    let [mut value, mut slopes] = outputs(backend, representation)?;
    let mut logits = Memory::new(backend, representation.dtype(), (batch, batch))?;
    let mut report = Memory::new(backend, representation.dtype(), (batch, 3))?;
    Launch::new(&program, "contrastive", batch)
        .input(representation)?
        .input(&beside(labels, representation)?)?
        .output(&mut logits)
        .output(&mut report)
        .count(batch)?
        .count(width)?
        .real(temperature)
        .count(usize::from(rounded))?
        .run(backend)?;
    Launch::new(&program, "contrastive_rows", batch)
        .input(representation)?
        .input(&logits.into_tensor())?
        .input(&report.into_tensor())?
        .output(&mut value)
        .output(&mut slopes)
        .count(batch)?
        .count(width)?
        .real(temperature)
        .run(backend)?;
    record("supervised_contrastive", representation, value, slopes)
}
