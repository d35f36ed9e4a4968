//! Scaled dot-product attention that does not keep its weights: the backward pass computes them again.

use candle_core::{DType, Tensor};
use decalign_core::device::Backend;
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, Result, with_real};

mod backward;
mod bias;
pub(crate) mod device;
mod direct;
mod forward;
mod layout;
mod packed;
mod problem;
mod query_group;
mod tile;
mod workspace;

use bias::Bias;
use problem::Problem;

use crate::attention_shape::AttentionShape;
use crate::mask::Mask;
use crate::reference;

pub(crate) fn attention(qkv: [&Tensor; 3], shape: AttentionShape, mask: &Mask) -> Result<Tensor> {
    let q = qkv[0];
    if matches!(q.dtype(), DType::BF16 | DType::F16) {
        return half_precision(qkv, shape, mask);
    }
    if let Some(backend) = Backend::of(q)? {
        return match device::scalar::supports(shape) {
            true => device::scalar::attention(&backend, qkv, shape, mask),
            false => reference::attention(qkv, shape, mask),
        };
    }
    with_real!("queries", q, T => fused::<T>(qkv, shape, mask))
}

/// Attention of bf16 or f16 tensors: on tensor cores, or in f32 with rounded results.
fn half_precision(qkv: [&Tensor; 3], shape: AttentionShape, mask: &Mask) -> Result<Tensor> {
    if let Some(backend) = Backend::of(qkv[0])?
        && device::tensor_core::supports(&backend, shape, mask)
    {
        return device::tensor_core::attention(&backend, qkv, shape, mask);
    }
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    let [q, k, v] = [single(qkv[0])?, single(qkv[1])?, single(qkv[2])?];
    let mask = Mask {
        keys: mask.keys.as_ref().map(single).transpose()?,
        bias: mask.bias.as_ref().map(single).transpose()?,
        ..*mask
    };
    Ok(attention([&q, &k, &v], shape, &mask)?.to_dtype(qkv[0].dtype())?)
}

fn fused<T: Real>(qkv: [&Tensor; 3], shape: AttentionShape, mask: &Mask) -> Result<Tensor> {
    let problem = Problem::<T>::new(shape, mask)?;
    let (out, saved) = {
        let [q, k, v] = qkv.map(|x| Elements::<T>::new(x));
        let bias = mask.bias.as_ref();
        let bias = bias.map(|bias| bias_of(bias, shape)).transpose()?;
        forward::forward(&problem, (&q?, &k?, &v?), bias.as_ref())
    };
    let output = Output::new(out, (shape.batch, shape.queries, shape.value_width));
    let inputs: Vec<&Tensor> = qkv.into_iter().chain(&mask.bias).collect();
    record_one("attention", &inputs, output, move |b| {
        backward::backward(b, &problem, &saved)
    })
}

/// The bias, which has rank 4, as the loops read it.
fn bias_of<T: Real>(bias: &Tensor, shape: AttentionShape) -> Result<Bias<'_, T>> {
    let (b, h, l, s) = bias.dims4()?;
    Ok(Bias::new(Elements::new(bias)?, [b, h, l, s], shape.keys))
}
