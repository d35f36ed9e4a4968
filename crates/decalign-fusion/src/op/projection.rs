//! The input projections of attention: three products with one packed weight.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::nn::linear;
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::device::projection::{self as device, Part};
use crate::reference::KEYS;

/// Queries, keys and values for dot-product attention: `q = x W_q^T + b_q`, `k = x W_k^T`,
/// `v = x W_v^T + b_v`, where `weight` stacks W_q, W_k, W_v and `bias` b_q, b_k, b_v.
///
/// A bias of the keys shifts all scores of a query alike, which the softmax does not see. It is
/// there for the sake of files, but left out of the sums: its gradient is exactly zero instead of
/// rounding, which Adam would turn into steps.
///
/// # Shapes
/// `queries` (B, L, d), `keys` and `values` (B, S, d), `weight` (3d, d), `bias` (3d); the results
/// are (B, L, d), (B, S, d), (B, S, d).
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn project(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<[Tensor; 3]> {
    let d = bias.elem_count() / 3;
    for (name, x) in [("queries", queries), ("keys", keys), ("values", values)] {
        if x.rank() != 3 || x.dims()[2] != d {
            return Err(Error::tensor(
                name,
                format!("shape (batch, time, {d})"),
                x.shape(),
            ));
        }
    }
    if weight.dims() != [3 * d, d] || bias.dims() != [3 * d] {
        let got = (weight.shape(), bias.shape());
        return Err(Error::tensor(
            "input projection",
            "weight (3d, d), bias (3d)",
            got,
        ));
    }
    if let Some(backend) = Backend::of(queries)? {
        return device::project_all(&backend, [queries, keys, values], (weight, bias));
    }
    with_real!("queries", queries, T => fused::<T>([queries, keys, values], weight, bias, d))
}

/// The queries alone.
pub(crate) fn project_queries(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if let Some(backend) = Backend::of(x)? {
        let part = Part {
            source: 0,
            layer: 0,
            part: 0,
        };
        return Ok(device::project(&backend, &[x], &[(weight, bias)], &[part])?.swap_remove(0));
    }
    let d = bias.elem_count() / 3;
    linear(x, &weight.narrow(0, 0, d)?, Some(&bias.narrow(0, 0, d)?))
}

fn fused<T: Real>(
    x: [&Tensor; 3],
    weight: &Tensor,
    bias: &Tensor,
    d: usize,
) -> Result<[Tensor; 3]> {
    let (w, b) = (Elements::<T>::new(weight)?, Elements::<T>::new(bias)?);
    let mut outputs = Vec::with_capacity(3);
    for (i, x) in x.iter().enumerate() {
        let (x, bias) = (Elements::<T>::new(x)?, &b[i * d..(i + 1) * d]);
        let rows = x.len() / d.max(1);
        let mut y = vec![T::zero(); x.len()];
        if i != KEYS {
            y.chunks_exact_mut(d.max(1))
                .for_each(|row| row.copy_from_slice(bias));
        }
        let w = Matrix::new(&w[i * d * d..(i + 1) * d * d], d, d).t();
        matmul(&mut y, d, Matrix::new(&x, rows, d), w, Store::Add);
        outputs.push(y);
    }
    let outputs = outputs
        .into_iter()
        .zip(&x)
        .map(|(y, x)| Output::new(y, x.dims()))
        .collect();
    let inputs = [x[0], x[1], x[2], weight, bias];
    let y = record("attention_projection", &inputs, outputs, move |b| {
        backward::<T>(b, d)
    })?;
    y.try_into().map_err(|_| {
        Error::value(
            "projections",
            "not three",
            "one for queries, keys and values",
        )
    })
}

fn backward<T: Real>(b: &Backward, d: usize) -> Result<InputGradients> {
    let device = b.inputs[0].device();
    let weight = Elements::<T>::new(&b.inputs[3])?;
    let mut gradients = vec![None; 5];
    let (mut dw, mut db) = (vec![T::zero(); 3 * d * d], vec![T::zero(); 3 * d]);
    for i in 0..3 {
        let Some(gradient) = &b.gradients[i] else {
            gradients[i] = Some(b.inputs[i].zeros_like()?);
            continue;
        };
        let (g, x) = (
            Elements::<T>::new(gradient)?,
            Elements::<T>::new(&b.inputs[i])?,
        );
        let rows = x.len() / d.max(1);
        let square = i * d * d..(i + 1) * d * d;
        if b.needed[i] {
            let mut dx = vec![T::zero(); x.len()];
            let w = Matrix::new(&weight[square.clone()], d, d);
            matmul(&mut dx, d, Matrix::new(&g, rows, d), w, Store::Write);
            gradients[i] = Some(Tensor::from_vec(dx, b.inputs[i].dims(), device)?);
        }
        let (g_t, x) = (Matrix::new(&g, rows, d).t(), Matrix::new(&x, rows, d));
        matmul(&mut dw[square], d, g_t, x, Store::Write);
        for row in g.chunks_exact(d.max(1)).filter(|_| i != KEYS) {
            for (sum, v) in db[i * d..].iter_mut().zip(row) {
                *sum += *v;
            }
        }
    }
    gradients[3] = Some(Tensor::from_vec(dw, (3 * d, d), device)?);
    gradients[4] = Some(Tensor::from_vec(db, 3 * d, device)?);
    Ok(gradients)
}
