//! Keys and values of all layers from a context that does not change, as one operation.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::device::projection::{self as device, Part};
use crate::reference::KEYS;

/// Which of the three projections is that of the values.
const VALUES: usize = 2;

/// Keys and values for several layers' attention: for each layer `k = x W_k^T` and `v = y W_v^T + b_v`, where
/// its weight stacks W_q, W_k, W_v and its bias b_q, b_k, b_v; see [`crate::project`] on b_k.
///
/// # Shapes
/// `keys` and `values` (B, S, d); of each layer weight (3d, d), bias (3d). Of each layer the results are
/// (B, S, d) both.
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn project_context(
    keys: &Tensor,
    values: &Tensor,
    layers: &[(&Tensor, &Tensor)],
) -> Result<Vec<[Tensor; 2]>> {
    let (_, _, d) = keys
        .dims3()
        .map_err(|_| Error::tensor("keys", "shape (B, S, d)", keys.shape()))?;
    if values.dims() != keys.dims() {
        let expected = format!("shape {:?}, that of the keys", keys.dims());
        return Err(Error::tensor("values", expected, values.shape()));
    }
    for (i, (weight, bias)) in layers.iter().enumerate() {
        if weight.dims() != [3 * d, d] || bias.dims() != [3 * d] {
            let name = format!("input projection of layer {i}");
            let expected = format!("weight ({}, {d}), bias ({})", 3 * d, 3 * d);
            return Err(Error::tensor(
                name,
                expected,
                (weight.shape(), bias.shape()),
            ));
        }
    }
    if let Some(backend) = Backend::of(keys)? {
        let of = |layer| {
            [(0, KEYS), (1, VALUES)].map(|(source, part)| Part {
                source,
                layer,
                part,
            })
        };
        let parts: Vec<Part> = (0..layers.len()).flat_map(of).collect();
        let y = device::project(&backend, &[keys, values], layers, &parts)?;
        return Ok(y
            .chunks_exact(2)
            .map(|y| [y[0].clone(), y[1].clone()])
            .collect());
    }
    with_real!("keys", keys, T => fused::<T>([keys, values], layers, d))
}

fn fused<T: Real>(
    x: [&Tensor; 2],
    layers: &[(&Tensor, &Tensor)],
    d: usize,
) -> Result<Vec<[Tensor; 2]>> {
    let mut all: Vec<Output> = Vec::with_capacity(2 * layers.len());
    for (x, part) in x.iter().zip([KEYS, VALUES]) {
        let (numbers, shape) = (Elements::<T>::new(x)?, x.dims());
        let rows = numbers.len() / d.max(1);
        for (weight, bias) in layers {
            let (mut y, store) = match part {
                VALUES => {
                    let bias = Elements::<T>::new(bias)?;
                    (bias[part * d..(part + 1) * d].repeat(rows), Store::Add)
                }
                _ => (vec![T::zero(); rows * d], Store::Write),
            };
            let weight = Elements::<T>::new(weight)?;
            let (w, x) = (of_part(&weight, part, d), Matrix::new(&numbers, rows, d));
            matmul(&mut y, d, x, w.t(), store);
            all.push(Output::new(y, shape));
        }
    }
    let inputs: Vec<&Tensor> = x
        .into_iter()
        .chain(layers.iter().flat_map(|(w, b)| [*w, *b]))
        .collect();
    let count = layers.len();
    let y = record("context_projection", &inputs, all, move |b| {
        backward::<T>(b, count, d)
    })?;
    let pairs = (0..count).map(|l| [y[l].clone(), y[count + l].clone()]);
    Ok(pairs.collect())
}

/// One of the three parts of a layer's weights.
fn of_part<T: Real>(weight: &[T], part: usize, d: usize) -> Matrix<'_, T> {
    Matrix::new(&weight[part * d * d..(part + 1) * d * d], d, d)
}

fn backward<T: Real>(b: &Backward, count: usize, d: usize) -> Result<InputGradients> {
    let mut gradients = vec![None; b.inputs.len()];
    let mut dw = vec![vec![T::zero(); 3 * d * d]; count];
    let mut db = vec![vec![T::zero(); 3 * d]; count];
    for (i, part) in [KEYS, VALUES].into_iter().enumerate() {
        let x = Elements::<T>::new(&b.inputs[i])?;
        let rows = x.len() / d.max(1);
        let mut dx = vec![T::zero(); if b.needed[i] { x.len() } else { 0 }];
        let mut store = Store::Write;
        for l in 0..count {
            let Some(gradient) = &b.gradients[i * count + l] else {
                continue;
            };
            let given = Elements::<T>::new(gradient)?;
            let g = Matrix::new(&given, rows, d);
            if b.needed[i] {
                let weight = Elements::<T>::new(&b.inputs[2 + 2 * l])?;
                matmul(&mut dx, d, g, of_part(&weight, part, d), store);
                store = Store::Add;
            }
            let dw = &mut dw[l][part * d * d..(part + 1) * d * d];
            matmul(dw, d, g.t(), Matrix::new(&x, rows, d), Store::Write);
            if part == VALUES {
                let db = &mut db[l][part * d..(part + 1) * d];
                for row in given.chunks_exact(d.max(1)) {
                    db.iter_mut().zip(row).for_each(|(sum, v)| *sum += *v);
                }
            }
        }
        if b.needed[i] {
            let like = &b.inputs[i];
            gradients[i] = Some(Tensor::from_vec(dx, like.dims(), like.device())?);
        }
    }
    let device = b.inputs[0].device();
    for (l, (dw, db)) in dw.into_iter().zip(db).enumerate() {
        gradients[2 + 2 * l] = Some(Tensor::from_vec(dw, (3 * d, d), device)?);
        gradients[3 + 2 * l] = Some(Tensor::from_vec(db, 3 * d, device)?);
    }
    Ok(gradients)
}
