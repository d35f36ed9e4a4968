//! The operations of this crate in plain tensor operations: slow, obvious, differentiable by Candle.

use candle_core::{D, DType, Tensor};
use decalign_core::Result;
use decalign_core::nn::{self, Mode};

use crate::attention_shape::AttentionShape;
use crate::mask::{AttentionMask, Mask};

/// The index of the projection of keys among the three.
pub(crate) const KEYS: usize = 1;

/// Queries, keys and values, see [`crate::project`].
///
/// # Errors
/// When the shapes do not fit.
pub fn project(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<[Tensor; 3]> {
    let d = weight.dim(1)?;
    let part = |x: &Tensor, i: usize| {
        let (w, b) = (weight.narrow(0, i * d, d)?, bias.narrow(0, i * d, d)?);
        nn::reference::linear(x, &w, (i != KEYS).then_some(&b))
    };
    Ok([part(queries, 0)?, part(keys, KEYS)?, part(values, 2)?])
}

/// Keys and values of several layers, see [`crate::project_context`].
///
/// # Errors
/// When the shapes do not fit.
pub fn project_context(
    keys: &Tensor,
    values: &Tensor,
    layers: &[(&Tensor, &Tensor)],
) -> Result<Vec<[Tensor; 2]>> {
    let each = layers.iter().map(|(weight, bias)| {
        let [_, k, v] = project(keys, keys, values, weight, bias)?;
        Ok([k, v])
    });
    each.collect()
}

/// Residual connection and layer norm, see [`crate::residual_norm`].
///
/// # Errors
/// When the shapes do not fit.
pub fn residual_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    let sum = (residual + mode.dropout(x, p)?)?;
    nn::reference::layer_norm(&sum, weight, bias, epsilon)
}

/// See [`crate::gelu`].
///
/// # Errors
/// When the dtype has no error function.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
    Ok((x * below)?.affine(0.5, 0.0)?)
}

/// See [`crate::rotate`].
///
/// # Errors
/// When the shapes do not fit.
pub fn rotate(x: &Tensor, heads: usize, angles: &Tensor) -> Result<Tensor> {
    let (b, t, d) = x.dims3()?;
    let pairs = x.reshape((b, t, heads, d / heads / 2, 2))?;
    let (even, odd) = (pairs.narrow(4, 0, 1)?, pairs.narrow(4, 1, 1)?);
    let angles = angles.to_dtype(x.dtype())?.to_device(x.device())?;
    let angles = angles.unsqueeze(2)?.unsqueeze(4)?;
    let (cosine, sine) = (angles.cos()?, angles.sin()?);
    let first = (even.broadcast_mul(&cosine)? - odd.broadcast_mul(&sine)?)?;
    let second = (even.broadcast_mul(&sine)? + odd.broadcast_mul(&cosine)?)?;
    Ok(Tensor::cat(&[first, second], 4)?.reshape((b, t, d))?)
}

/// (B, T, d) to (B H, T, d / H).
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, d) = x.dims3()?;
    Ok(x.reshape((b, t, heads, d / heads))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b * heads, t, d / heads))?)
}

/// -inf where a query does not attend to a key, (B, 1, L, S); none if all queries attend to all keys.
fn hidden(q: &Tensor, shape: AttentionShape, mask: &Mask) -> Result<Option<Tensor>> {
    if !mask.causal && mask.keys.is_none() {
        return Ok(None);
    }
    let (b, l, s) = (shape.batch, shape.queries, shape.keys);
    let keys = match &mask.keys {
        Some(keys) => keys.to_dtype(DType::F64)?.to_vec2::<f64>()?,
        None => vec![vec![1.0; s]; b],
    };
    let mut hidden = Vec::with_capacity(b * l * s);
    for row in &keys {
        for i in 0..l {
            let seen = |j: usize| row[j] != 0.0 && !(mask.causal && j > i);
            hidden.extend((0..s).map(|j| if seen(j) { 0.0 } else { f64::NEG_INFINITY }));
        }
    }
    let hidden = Tensor::from_vec(hidden, (b, 1, l, s), q.device())?;
    Ok(Some(hidden.to_dtype(q.dtype())?))
}

/// (B, H, L, S); the row of a query without keys is zeros.
fn weights(q: &Tensor, k: &Tensor, shape: AttentionShape, mask: &Mask) -> Result<Tensor> {
    let (q, k) = (split_heads(q, shape.heads)?, split_heads(k, shape.heads)?);
    let scale = 1.0 / (shape.head() as f64).sqrt();
    let logits = (q.matmul(&k.t()?.contiguous()?)? * scale)?;
    let mut logits = logits.reshape((shape.batch, shape.heads, shape.queries, shape.keys))?;
    if let Some(bias) = &mask.bias {
        logits = logits.broadcast_add(bias)?;
    }
    if let Some(hidden) = hidden(&q, shape, mask)? {
        // The mask overrides the bias of a hidden key.
        let hidden = hidden.broadcast_as(logits.shape())?;
        logits = hidden.eq(0.0)?.where_cond(&logits, &hidden.contiguous()?)?;
    }
    // Rows without keys get finite logits, and weights are multiplied by 0.
    let none = logits.max_keepdim(D::Minus1)?.eq(f64::NEG_INFINITY)?;
    let any = none.eq(0u8)?.to_dtype(logits.dtype())?;
    let none = none.broadcast_as(logits.shape())?;
    logits = none.where_cond(&logits.zeros_like()?, &logits)?;
    Ok(nn::reference::softmax(&logits)?.broadcast_mul(&any)?)
}

/// See [`crate::attention_weights`].
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn attention_weights(
    q: &Tensor,
    k: &Tensor,
    heads: usize,
    mask: AttentionMask,
) -> Result<Tensor> {
    let shape = AttentionShape::new(q, k, None, heads)?;
    let mask = Mask::new(q, shape, mask, (0.0, Mode::Inference))?;
    weights(q, k, shape, &mask)
}

/// See [`crate::dot_product_attention`].
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn dot_product_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: AttentionMask,
    drop: (f64, Mode),
) -> Result<Tensor> {
    let shape = AttentionShape::new(q, k, Some(v), heads)?;
    attention([q, k, v], shape, &Mask::new(q, shape, mask, drop)?)
}

/// Scaled dot-product attention with the weights in memory; a query without keys gives zeros.
pub(crate) fn attention(
    [q, k, v]: [&Tensor; 3],
    shape: AttentionShape,
    mask: &Mask,
) -> Result<Tensor> {
    let (b, h, l, s) = (shape.batch, shape.heads, shape.queries, shape.keys);
    let mut weights = weights(q, k, shape, mask)?.reshape((b * h, l, s))?;
    if let Some((p, stream)) = mask.drop {
        weights = drop_weights(&weights, shape, p, stream)?;
    }
    let out = weights.matmul(&split_heads(v, h)?)?;
    Ok(out
        .reshape((b, h, l, shape.value_head()))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b, l, shape.value_width))?)
}

/// Dropout of weights: each sample draws from its child stream, as in the fused operation.
fn drop_weights(
    weights: &Tensor,
    shape: AttentionShape,
    p: f64,
    stream: decalign_core::random::Stream,
) -> Result<Tensor> {
    let n = shape.heads * shape.queries * shape.keys;
    let mask: Vec<f64> = (0..shape.batch as u64)
        .flat_map(|i| nn::dropout_mask::<f64>(n, p, stream.child(i)))
        .collect();
    let mask = Tensor::from_vec(mask, weights.dims(), weights.device())?;
    Ok((weights * mask.to_dtype(weights.dtype())?)?)
}

/// See [`crate::mean_pool`].
///
/// # Errors
/// When the shapes do not fit.
pub fn mean_pool(x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let Some(mask) = mask else {
        return Ok(x.mean(1)?);
    };
    let count = mask.sum_keepdim(1)?.maximum(1.0)?;
    let sum = x.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
    Ok(sum.broadcast_div(&count)?)
}
