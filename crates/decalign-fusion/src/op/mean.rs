//! The mean over the steps of a sequence.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, Result, parallel, with_real};

use super::device;

/// `sum_t m_t x_t / max(sum_t m_t, 1)`; the mask has the dtype of `x` and carries no gradient.
pub(crate) fn mean(
    x: &Tensor,
    mask: Option<&Tensor>,
    dims: (usize, usize, usize),
) -> Result<Tensor> {
    if let Some(backend) = Backend::of(x)? {
        return device::mean::mean(&backend, x, mask, dims);
    }
    with_real!("x", x, T => fused::<T>(x, mask, dims))
}

fn fused<T: Real>(
    x: &Tensor,
    mask: Option<&Tensor>,
    (batch, steps, width): (usize, usize, usize),
) -> Result<Tensor> {
    let weights: Vec<T> = match mask {
        None => vec![T::one() / T::of(steps as f64); batch * steps],
        Some(mask) => step_weights(&Elements::<T>::new(mask)?, steps),
    };
    let size = steps * width;
    let mut y = vec![T::zero(); batch * width];
    {
        let x = Elements::<T>::new(x)?;
        parallel::for_each_chunk(&mut y, width.max(1), batch * size, |b, y| {
            let rows = x[b * size..][..size].chunks_exact(width.max(1));
            // A masked step is not read: it may hold NaN.
            let weighted = rows.zip(&weights[b * steps..]);
            for (row, weight) in weighted.filter(|(_, weight)| **weight != T::zero()) {
                for (y, x) in y.iter_mut().zip(row) {
                    *y += *weight * *x;
                }
            }
        });
    }
    record_one(
        "mean_pool",
        &[x],
        Output::new(y, (batch, width)),
        move |b| {
            let gradient = b.gradient(0)?;
            let g = Elements::<T>::new(&gradient)?;
            let mut dx = Vec::with_capacity(batch * size);
            for (g, weights) in g
                .chunks_exact(width.max(1))
                .zip(weights.chunks_exact(steps))
            {
                for weight in weights {
                    dx.extend(g.iter().map(|g| *g * *weight));
                }
            }
            let dx = Tensor::from_vec(dx, (batch, steps, width), gradient.device())?;
            Ok(vec![Some(dx)])
        },
    )
}

/// The weight of each step.
fn step_weights<T: Real>(mask: &[T], steps: usize) -> Vec<T> {
    let mut weights = mask.to_vec();
    for row in weights.chunks_exact_mut(steps) {
        let count: T = row.iter().copied().sum();
        let count = if count > T::one() { count } else { T::one() };
        row.iter_mut().for_each(|m| *m /= count);
    }
    weights
}
