//! Supervised contrastive loss.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::{Elements, Real, simd, with_real};

use super::device;
use super::task::record_loss;
use crate::{Error, Result};
use decalign_core::tensor_convert::to_f64s;

/// Which samples belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grouping {
    /// Those of one class.
    Classes,
    /// Those whose scores, clamped to [-3, 3] and rounded half to even, are equal.
    RoundedScores,
}

/// Denominators are not taken below this.
const FLOOR: f64 = 1e-8;

/// Norms are not taken below this.
const NORM_FLOOR: f64 = 1e-12;

/// Supervised contrastive loss (Khosla and others, 2020) of L2-normalised rows `z`:
///
/// ```text
/// l_i = -mean over p in P(i) of log( exp(z_i z_p / t) / sum over a != i of exp(z_i z_a / t) )
/// ```
///
/// where P(i) are the other samples of i's group; the mean over rows with a non-empty P(i), 0 when
/// there is none.
///
/// # Shapes
/// `representation` (B, d), `labels` (B) or (B, 1); `temperature` > 0; the result is a scalar.
///
/// # Errors
/// When the sizes differ or the temperature is not positive.
pub fn supervised_contrastive(
    representation: &Tensor,
    labels: &Tensor,
    grouping: Grouping,
    temperature: f64,
) -> Result<Tensor> {
    let (batch, width) = representation.dims2()?;
    if labels.elem_count() != batch {
        return Err(Error::invalid(format!(
            "{batch} representations for {} labels",
            labels.elem_count()
        )));
    }
    if temperature.is_nan() || temperature <= 0.0 {
        return Err(Error::config(
            "ct_temperature",
            format!("is {temperature}, must be positive"),
        ));
    }
    if batch > 0
        && let Some(backend) = Backend::of(representation)?
    {
        let rounded = grouping == Grouping::RoundedScores;
        return Ok(device::contrastive(
            &backend,
            representation,
            labels,
            rounded,
            temperature,
        )?);
    }
    let groups: Vec<i64> = to_f64s(labels)?
        .iter()
        .map(|y| match grouping {
            Grouping::Classes => *y as i64,
            Grouping::RoundedScores => y.clamp(-3.0, 3.0).round_ties_even() as i64,
        })
        .collect();
    let recorded: decalign_core::Result<Tensor> = with_real!("representation", representation, T => {
        let (loss, gradient) = {
            let x = Elements::<T>::new(representation)?;
            evaluate::<T>(&x, width, &groups, T::of(temperature))
        };
        record_loss("supervised_contrastive", representation, loss, gradient)
    });
    Ok(recorded?)
}

/// The loss and its gradient with respect to the rows.
fn evaluate<T: Real>(x: &[T], width: usize, groups: &[i64], temperature: T) -> (T, Vec<T>) {
    let batch = groups.len();
    let norms: Vec<T> = x
        .chunks_exact(width)
        .map(|row| simd::sum_squares(row).sqrt())
        .collect();
    let floor = T::of(NORM_FLOOR);
    let mut z = x.to_vec();
    for (row, norm) in z.chunks_exact_mut(width).zip(&norms) {
        let scale = if *norm > floor { *norm } else { floor }.recip();
        row.iter_mut().for_each(|v| *v *= scale);
    }
    let view = Matrix::new(&z, batch, width);
    let mut logits = vec![T::zero(); batch * batch];
    matmul(&mut logits, batch, view, view.t(), Store::Write);
    logits.iter_mut().for_each(|v| *v /= temperature);
    // From here on `logits` turns into its own gradient.
    let loss = rows(&mut logits, groups);
    let mut dz = vec![T::zero(); z.len()];
    let g = Matrix::new(&logits, batch, batch);
    matmul(&mut dz, width, g, view, Store::Write);
    matmul(&mut dz, width, g.t(), view, Store::Add);
    for ((row, z), norm) in dz
        .chunks_exact_mut(width)
        .zip(z.chunks_exact(width))
        .zip(&norms)
    {
        let along = if *norm > floor {
            simd::dot(row, z)
        } else {
            T::zero()
        };
        let scale = (if *norm > floor { *norm } else { floor } * temperature).recip();
        for (d, z) in row.iter_mut().zip(z) {
            *d = (*d - along * *z) * scale;
        }
    }
    (loss, dz)
}

/// The mean loss over rows with a positive; replaces logits by the loss's gradient.
fn rows<T: Real>(logits: &mut [T], groups: &[i64]) -> T {
    let batch = groups.len();
    let positives: Vec<usize> = (0..batch)
        .map(|i| groups.iter().filter(|g| **g == groups[i]).count() - 1)
        .collect();
    let counted = positives.iter().filter(|n| **n > 0).count();
    if counted == 0 {
        logits.fill(T::zero());
        return T::zero();
    }
    let (mut loss, share) = (T::zero(), T::of(1.0 / counted as f64));
    for (i, row) in logits.chunks_exact_mut(batch).enumerate() {
        if positives[i] == 0 {
            row.fill(T::zero());
            continue;
        }
        let (largest, each) = (simd::max(row), T::of(1.0 / positives[i] as f64));
        let positive = |j: usize| j != i && groups[j] == groups[i];
        let mut sum = T::zero();
        for (j, v) in row.iter().enumerate() {
            if j != i {
                sum += (*v - largest).exp();
            }
        }
        let floor = T::of(FLOOR);
        let free = sum >= floor;
        let denominator = if free { sum } else { floor };
        let log = denominator.ln();
        for (j, v) in row.iter_mut().enumerate() {
            let shifted = *v - largest;
            let mut slope = T::zero();
            if positive(j) {
                loss -= share * each * (shifted - log);
                slope -= each;
            }
            if free && j != i {
                slope += shifted.exp() / denominator;
            }
            *v = slope * share;
        }
    }
    loss
}
