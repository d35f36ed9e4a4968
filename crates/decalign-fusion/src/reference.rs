//! The same operations in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::{D, Tensor};
use decalign_core::Result;
use decalign_core::nn::{self, Mode};

use crate::size::{AttentionSize, Restriction};

/// What PyTorch's layer norm adds to the variance.
pub(crate) const EPSILON: f64 = 1e-5;

/// Which of the three projections is that of the keys.
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
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    let sum = (residual + mode.dropout(x, p)?)?;
    nn::reference::layer_norm(&sum, weight, bias, EPSILON)
}

/// (B, T, d) to (B H, T, d / H).
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, d) = x.dims3()?;
    Ok(x.reshape((b, t, heads, d / heads))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b * heads, t, d / heads))?)
}

/// -inf where a key is not to be seen, (B H, L, S), or nothing when all are.
fn bias(q: &Tensor, size: AttentionSize, restriction: &Restriction) -> Result<Option<Tensor>> {
    if !restriction.causal && restriction.key_mask.is_none() {
        return Ok(None);
    }
    let (b, h, l, s) = (size.batch, size.heads, size.queries, size.keys);
    let mask = match &restriction.key_mask {
        Some(mask) => mask.to_dtype(candle_core::DType::F64)?.to_vec2::<f64>()?,
        None => vec![vec![1.0; s]; b],
    };
    let mut bias = Vec::with_capacity(b * h * l * s);
    for row in &mask {
        for _ in 0..h {
            for i in 0..l {
                let seen = |j: usize| row[j] != 0.0 && !(restriction.causal && j > i);
                bias.extend((0..s).map(|j| if seen(j) { 0.0 } else { f64::NEG_INFINITY }));
            }
        }
    }
    let bias = Tensor::from_vec(bias, (b * h, l, s), q.device())?;
    Ok(Some(bias.to_dtype(q.dtype())?))
}

/// Scaled dot-product attention with the weights in memory. A row that sees nothing gives zeros.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    size: AttentionSize,
    restriction: &Restriction,
) -> Result<Tensor> {
    let heads = size.heads;
    let (q, k, v) = (
        split_heads(q, heads)?,
        split_heads(k, heads)?,
        split_heads(v, heads)?,
    );
    let scale = 1.0 / (size.head() as f64).sqrt();
    let mut logits = (q.matmul(&k.t()?.contiguous()?)? * scale)?;
    let bias = bias(&q, size, restriction)?;
    let mut seen = None;
    if let Some(bias) = &bias {
        logits = (logits + bias)?;
        // Rows without keys: finite logits, then weights times 0.
        let row_max = bias.max_keepdim(D::Minus1)?;
        let any = row_max.eq(0.0)?.to_dtype(bias.dtype())?;
        let none = any.broadcast_as(logits.shape())?.eq(0.0)?;
        logits = none.where_cond(&logits.zeros_like()?, &logits)?;
        seen = Some(any);
    }
    let mut weights = nn::reference::softmax(&logits)?;
    if let Some(any) = seen {
        weights = weights.broadcast_mul(&any)?;
    }
    if let Some((p, stream)) = restriction.drop {
        weights = drop_weights(&weights, size, p, stream)?;
    }
    let out = weights.matmul(&v)?;
    let (b, l) = (size.batch, size.queries);
    Ok(out
        .reshape((b, heads, l, size.head()))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b, l, size.width))?)
}

/// Dropout on weights, each sample from its own stream as in the fused operation.
fn drop_weights(
    weights: &Tensor,
    size: AttentionSize,
    p: f64,
    stream: decalign_core::random::Stream,
) -> Result<Tensor> {
    let n = size.heads * size.queries * size.keys;
    let mask: Vec<f64> = (0..size.batch as u64)
        .flat_map(|i| nn::dropout_mask::<f64>(n, p, stream.child(i)))
        .collect();
    let mask = Tensor::from_vec(mask, weights.dims(), weights.device())?;
    Ok((weights * mask.to_dtype(weights.dtype())?)?)
}
