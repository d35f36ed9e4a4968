//! The input projections of attention: products with parts of packed weights.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::nn::linear;
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::device::projection as device;
use crate::reference::KEYS;

/// The index of the projection of values among the three.
const VALUES: usize = 2;

/// One projection: a source times one of the three parts of the packed weight of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) source: usize,
    pub(crate) layer: usize,
    pub(crate) part: usize,
}

/// Queries, keys and values for dot-product attention: `q = x W_q^T + b_q`, `k = x W_k^T`,
/// `v = x W_v^T + b_v`, where `weight` stacks W_q, W_k, W_v and `bias` b_q, b_k, b_v.
///
/// A bias of the keys shifts all logits of a query alike, which the softmax does not see. Files have it, so `bias` holds it, but it is
/// not added: its gradient is exactly zero instead of rounding errors, which Adam would scale up to steps.
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
            let expected = format!("shape (batch, time, {d})");
            return Err(Error::tensor(name, expected, x.shape()));
        }
    }
    check_layer("input projection", (weight, bias), d)?;
    let parts = [0, 1, 2].map(|part| Part {
        source: part,
        layer: 0,
        part,
    });
    let y = project_parts(&[queries, keys, values], &[(weight, bias)], &parts)?;
    y.try_into().map_err(|_| {
        let expected = "one for queries, keys and values";
        Error::value("projections", "not three", expected)
    })
}

/// Keys and values for the attention of several layers to one context: for each layer `k = x W_k^T` and `v = y W_v^T + b_v`, where
/// its weight stacks W_q, W_k, W_v and its bias b_q, b_k, b_v; see [`project`] on b_k.
///
/// # Shapes
/// `keys` and `values` (B, S, d); for each layer weight (3d, d), bias (3d). The results are two tensors (B, S, d) for each layer.
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
    for (i, layer) in layers.iter().enumerate() {
        check_layer(&format!("input projection of layer {i}"), *layer, d)?;
    }
    let count = layers.len();
    let sources = [(0, KEYS), (1, VALUES)].into_iter();
    let parts = sources.flat_map(|(source, part)| {
        (0..count).map(move |layer| Part {
            source,
            layer,
            part,
        })
    });
    let y = project_parts(&[keys, values], layers, &parts.collect::<Vec<_>>())?;
    let pairs = (0..count).map(|l| [y[l].clone(), y[count + l].clone()]);
    Ok(pairs.collect())
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

fn check_layer(name: &str, (weight, bias): (&Tensor, &Tensor), d: usize) -> Result<()> {
    if weight.dims() != [3 * d, d] || bias.dims() != [3 * d] {
        let expected = format!("weight ({}, {d}), bias ({})", 3 * d, 3 * d);
        let got = (weight.shape(), bias.shape());
        return Err(Error::tensor(name, expected, got));
    }
    Ok(())
}

/// `x W_p^T + b_p` for each of `parts`, without the bias for keys.
fn project_parts(
    sources: &[&Tensor],
    layers: &[(&Tensor, &Tensor)],
    parts: &[Part],
) -> Result<Vec<Tensor>> {
    if let Some(backend) = Backend::of(sources[0])? {
        return device::project(&backend, sources, layers, parts);
    }
    with_real!("projected sequence", sources[0], T => fused::<T>(sources, layers, parts))
}

fn fused<T: Real>(
    sources: &[&Tensor],
    layers: &[(&Tensor, &Tensor)],
    parts: &[Part],
) -> Result<Vec<Tensor>> {
    let d = sources[0].dim(2)?;
    let mut outputs = Vec::with_capacity(parts.len());
    for p in parts {
        let (x, (weight, bias)) = (sources[p.source], layers[p.layer]);
        let (values, w) = (Elements::<T>::new(x)?, Elements::<T>::new(weight)?);
        let rows = values.len() / d.max(1);
        let (mut y, store) = match p.part {
            KEYS => (vec![T::zero(); rows * d], Store::Write),
            part => {
                let bias = Elements::<T>::new(bias)?;
                (bias[part * d..(part + 1) * d].repeat(rows), Store::Add)
            }
        };
        let x_rows = Matrix::new(&values, rows, d);
        matmul(&mut y, d, x_rows, part_of(&w, p.part, d).t(), store);
        outputs.push(Output::new(y, x.dims()));
    }
    let pairs = layers.iter().flat_map(|(w, b)| [*w, *b]);
    let inputs: Vec<&Tensor> = sources.iter().copied().chain(pairs).collect();
    let (count, parts) = (sources.len(), parts.to_vec());
    record("attention_projection", &inputs, outputs, move |b| {
        backward::<T>(b, count, &parts, d)
    })
}

/// One of the three parts of a packed weight.
fn part_of<T: Real>(weight: &[T], part: usize, d: usize) -> Matrix<'_, T> {
    Matrix::new(&weight[part * d * d..(part + 1) * d * d], d, d)
}

fn backward<T: Real>(
    b: &Backward,
    sources: usize,
    parts: &[Part],
    d: usize,
) -> Result<InputGradients> {
    let layers = (b.inputs.len() - sources) / 2;
    let mut dw = vec![vec![T::zero(); 3 * d * d]; layers];
    let mut db = vec![vec![T::zero(); 3 * d]; layers];
    let mut gradients = Vec::with_capacity(b.inputs.len());
    for source in 0..sources {
        let x = Elements::<T>::new(&b.inputs[source])?;
        let rows = x.len() / d.max(1);
        let mut dx = vec![T::zero(); if b.needed[source] { x.len() } else { 0 }];
        let mut store = Store::Write;
        for (p, gradient) in parts.iter().zip(b.gradients) {
            let Some(gradient) = gradient.as_ref().filter(|_| p.source == source) else {
                continue;
            };
            let values = Elements::<T>::new(gradient)?;
            let g = Matrix::new(&values, rows, d);
            if b.needed[source] {
                let weight = Elements::<T>::new(&b.inputs[sources + 2 * p.layer])?;
                matmul(&mut dx, d, g, part_of(&weight, p.part, d), store);
                store = Store::Add;
            }
            let dw = &mut dw[p.layer][p.part * d * d..(p.part + 1) * d * d];
            matmul(dw, d, g.t(), Matrix::new(&x, rows, d), Store::Write);
            if p.part != KEYS {
                let db = &mut db[p.layer][p.part * d..(p.part + 1) * d];
                for row in values.chunks_exact(d.max(1)) {
                    db.iter_mut().zip(row).for_each(|(sum, v)| *sum += *v);
                }
            }
        }
        let like = &b.inputs[source];
        gradients.push(match b.needed[source] {
            true => Some(Tensor::from_vec(dx, like.dims(), like.device())?),
            false => None,
        });
    }
    let device = b.inputs[0].device();
    for (dw, db) in dw.into_iter().zip(db) {
        gradients.push(Some(Tensor::from_vec(dw, (3 * d, d), device)?));
        gradients.push(Some(Tensor::from_vec(db, 3 * d, device)?));
    }
    Ok(gradients)
}
