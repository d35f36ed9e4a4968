//! Task losses, each one fused operation on a handful of numbers.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, with_real};

use super::device;
use crate::config::RegressionLoss;
use crate::{Error, Result};
use decalign_core::tensor_convert::to_f64s;

/// The value of a loss of one batch and its gradient with respect to the prediction.
struct Evaluated {
    value: f64,
    gradient: Vec<f64>,
}

fn record(prediction: &Tensor, loss: Evaluated) -> Result<Tensor> {
    let recorded: decalign_core::Result<Tensor> = with_real!("prediction", prediction, T => {
        let gradient = loss.gradient.into_iter().map(T::of).collect();
        record_loss("task_loss", prediction, T::of(loss.value), gradient)
    });
    Ok(recorded?)
}

/// Records a loss whose gradient with respect to `x` is known with its value.
pub(super) fn record_loss<T: Real>(
    name: &'static str,
    x: &Tensor,
    value: T,
    gradient: Vec<T>,
) -> decalign_core::Result<Tensor> {
    record_one(name, &[x], Output::new(vec![value], ()), move |b| {
        let outer = b.gradient(0)?;
        let outer = Elements::<T>::new(&outer)?[0];
        let gradient: Vec<T> = gradient.iter().map(|g| *g * outer).collect();
        let x = &b.inputs[0];
        Ok(vec![Some(Tensor::from_vec(
            gradient,
            x.dims(),
            x.device(),
        )?)])
    })
}

fn same_size(prediction: &Tensor, labels: &Tensor) -> Result<usize> {
    match prediction.elem_count() {
        n if n > 0 && n == labels.elem_count() => Ok(n),
        _ => Err(Error::invalid(format!(
            "predictions {:?} and labels {:?} must be of one size, at least 1",
            prediction.shape(),
            labels.shape()
        ))),
    }
}

/// Mean over samples of `|e|`, `e^2`, or smooth-L1 (`e^2 / (2 beta)` below beta, else
/// `|e| - beta / 2`), where `e = prediction - label`.
///
/// # Shapes
/// `prediction` and `labels` (B, 1).
///
/// # Errors
/// When the sizes differ.
pub fn regression_loss(
    prediction: &Tensor,
    labels: &Tensor,
    kind: RegressionLoss,
) -> Result<Tensor> {
    let n = same_size(prediction, labels)? as f64;
    if let Some(backend) = Backend::of(prediction)? {
        return Ok(device::regression(&backend, prediction, labels, kind)?);
    }
    let (p, y) = (to_f64s(prediction)?, to_f64s(labels)?);
    let (mut value, mut gradient) = (0.0, Vec::with_capacity(p.len()));
    for (p, y) in p.iter().zip(&y) {
        let e = p - y;
        let (loss, slope) = match kind {
            RegressionLoss::Mae => (e.abs(), sign(e)),
            RegressionLoss::Mse => (e * e, 2.0 * e),
            RegressionLoss::SmoothL1 { beta } if e.abs() < beta => (0.5 * e * e / beta, e / beta),
            RegressionLoss::SmoothL1 { beta } => (e.abs() - 0.5 * beta, sign(e)),
        };
        value += loss / n;
        gradient.push(slope / n);
    }
    record(prediction, Evaluated { value, gradient })
}

/// -1, 0 or 1; NaN stays.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// Binary cross-entropy of the label's sign with the prediction as logit, mean over samples whose
/// label is not 0; 0 when there is none.
///
/// # Shapes
/// `prediction` and `labels` (B, 1).
///
/// # Errors
/// When the sizes differ.
pub fn sign_loss(prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
    same_size(prediction, labels)?;
    if let Some(backend) = Backend::of(prediction)? {
        return Ok(device::sign(&backend, prediction, labels)?);
    }
    let (p, y) = (to_f64s(prediction)?, to_f64s(labels)?);
    let n = y.iter().filter(|y| **y != 0.0).count().max(1) as f64;
    let (mut value, mut gradient) = (0.0, vec![0.0; p.len()]);
    for (i, (x, y)) in p
        .iter()
        .zip(&y)
        .enumerate()
        .filter(|(_, (_, y))| **y != 0.0)
    {
        let target = f64::from(u8::from(*y > 0.0));
        value += (x.max(0.0) - x * target + (-x.abs()).exp().ln_1p()) / n;
        gradient[i] = (1.0 / (1.0 + (-x).exp()) - target) / n;
    }
    record(prediction, Evaluated { value, gradient })
}

/// `N / (count_c C)` for every class c, the weights of balanced cross-entropy; 0 for a class
/// without samples.
pub fn class_weights(classes: usize, labels: &[usize]) -> Vec<f64> {
    let mut counts = vec![0usize; classes];
    for label in labels {
        if let Some(count) = counts.get_mut(*label) {
            *count += 1;
        }
    }
    let weight = |count: usize| match count {
        0 => 0.0,
        count => labels.len() as f64 / (count * classes) as f64,
    };
    counts.into_iter().map(weight).collect()
}

/// Labels that are classes, as numbers.
fn known(labels: &Tensor, classes: usize) -> Result<Vec<f64>> {
    let labels = to_f64s(labels)?;
    match labels
        .iter()
        .find(|y| !(**y >= 0.0 && **y < classes as f64))
    {
        Some(label) => Err(Error::invalid(format!(
            "label {label} is not one of {classes} classes"
        ))),
        None => Ok(labels),
    }
}

/// Cross-entropy `-sum_i w_{y_i} log softmax(x_i)_{y_i} / sum_i w_{y_i}`.
///
/// # Shapes
/// `logits` (B, C), `labels` (B) or (B, 1) with classes in 0..C, `weights` C numbers.
///
/// # Errors
/// When the sizes differ or a class is out of range; the message names it. Labels on a device are not read: where one is
/// out of range, the loss is NaN.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, weights: Option<&[f64]>) -> Result<Tensor> {
    let (batch, classes) = logits.dims2()?;
    if labels.elem_count() != batch || batch == 0 {
        return Err(Error::invalid(format!(
            "{batch} predictions for {} labels",
            labels.elem_count()
        )));
    }
    // Labels on a device stay there.
    let host = match Backend::of(labels)? {
        Some(_) => None,
        None => Some(known(labels, classes)?),
    };
    if let Some(backend) = Backend::of(logits)? {
        return Ok(device::cross_entropy(&backend, logits, labels, weights)?);
    }
    let (x, labels) = (to_f64s(logits)?, host.map_or_else(|| to_f64s(labels), Ok)?);
    let weight = |label: usize| weights.map_or(1.0, |w| w.get(label).copied().unwrap_or(1.0));
    let total: f64 = labels.iter().map(|y| weight(*y as usize)).sum();
    let total = if total > 0.0 { total } else { 1.0 };
    let (mut value, mut gradient) = (0.0, Vec::with_capacity(x.len()));
    for (row, label) in x.chunks_exact(classes).zip(&labels) {
        let (label, largest) = (
            *label as usize,
            row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        let sum: f64 = row.iter().map(|v| (v - largest).exp()).sum();
        let scale = weight(label) / total;
        value -= scale * (row[label] - largest - sum.ln());
        gradient.extend(
            row.iter().enumerate().map(|(c, v)| {
                scale * ((v - largest).exp() / sum - f64::from(u8::from(c == label)))
            }),
        );
    }
    record(logits, Evaluated { value, gradient })
}
