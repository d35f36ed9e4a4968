//! Multi-head attention.

use candle_core::Tensor;
use decalign_core::nn::{Init, Mode, Parameters, linear};
use decalign_core::{Error, Result};

use crate::op::attention::attention;
use crate::op::projection::project;
use crate::size::{AttentionSize, Restriction};

/// Scaled dot-product attention of projected queries, keys and values:
/// `softmax(q k^T / sqrt(d / H)) v` for each of H heads (Vaswani and others, 2017).
///
/// The weights are never kept: the backward pass computes them again, so memory is linear in the
/// number of keys. With `causal`, query i sees keys 0 to i. With a `key_mask`, keys where it is 0
/// do not exist; a query that sees no key gives zeros and zero gradients.
///
/// # Shapes
/// `q` (B, L, d), `k` and `v` (B, S, d), `key_mask` (B, S); the result is (B, L, d).
///
/// # Errors
/// When the shapes or dtypes do not fit or `heads` does not divide d.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Mode;
/// let q = Tensor::ones((2, 3, 4), DType::F32, &Device::Cpu)?;
/// let v = Tensor::ones((2, 5, 4), DType::F32, &Device::Cpu)?;
/// let y = decalign_fusion::dot_product_attention(&q, &v, &v, 2, false, None, (0.0, Mode::Inference))?;
/// assert_eq!(y.dims(), [2, 3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dot_product_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    causal: bool,
    key_mask: Option<&Tensor>,
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    let (size, restriction) = restrict(q, k, v, heads, causal, key_mask, (p, mode))?;
    attention(q, k, v, size, &restriction)
}

/// As [`dot_product_attention`], in plain tensor operations.
///
/// # Errors
/// As [`dot_product_attention`].
pub fn dot_product_attention_reference(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    causal: bool,
    key_mask: Option<&Tensor>,
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    let (size, restriction) = restrict(q, k, v, heads, causal, key_mask, (p, mode))?;
    crate::reference::attention(q, k, v, size, &restriction)
}

fn restrict(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    causal: bool,
    key_mask: Option<&Tensor>,
    (p, mode): (f64, Mode),
) -> Result<(AttentionSize, Restriction)> {
    let size = AttentionSize::new(q, k, v, heads)?;
    if !(0.0..1.0).contains(&p) {
        return Err(Error::value("attention dropout", p, "must lie in [0, 1)"));
    }
    let key_mask = match key_mask {
        Some(mask) if mask.dims() != [size.batch, size.keys] => {
            let expected = format!("shape ({}, {})", size.batch, size.keys);
            return Err(Error::tensor("key mask", expected, mask.shape()));
        }
        Some(mask) => Some(mask.to_dtype(q.dtype())?),
        None => None,
    };
    let drop = mode.stream(p).map(|stream| (p, stream));
    Ok((
        size,
        Restriction {
            causal,
            key_mask,
            drop,
        },
    ))
}

/// Attention with its four projections, parameters named as PyTorch's `MultiheadAttention`.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: usize,
    dropout: f64,
}

impl MultiHeadAttention {
    /// Attention of width `width` with `heads` heads and `dropout` on its weights.
    ///
    /// # Errors
    /// When `heads` does not divide `width`.
    pub fn new(parameters: &Parameters, width: usize, heads: usize, dropout: f64) -> Result<Self> {
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            return Err(Error::value(
                "heads",
                heads,
                format!("must divide the width {width}"),
            ));
        }
        let out = parameters.scope("out_proj");
        Ok(Self {
            in_weight: parameters.get("in_proj_weight", (3 * width, width), Init::XavierUniform)?,
            in_bias: parameters.get("in_proj_bias", 3 * width, Init::Constant(0.0))?,
            out_weight: out.get(
                "weight",
                (width, width),
                Init::KaimingUniform { fan_in: width },
            )?,
            out_bias: out.get("bias", width, Init::Constant(0.0))?,
            heads,
            dropout,
        })
    }

    /// Attends from `queries` to `keys` and `values`.
    ///
    /// # Shapes
    /// `queries` (B, L, d), `keys` and `values` (B, S, d), `key_mask` (B, S).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn forward(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        causal: bool,
        key_mask: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        let [q, k, v] = project(queries, keys, values, &self.in_weight, &self.in_bias)?;
        self.attend(&q, &k, &v, causal, key_mask, mode)
    }

    /// Attends from `queries` to keys and values that are projected already, see
    /// [`project_context`](crate::project_context).
    ///
    /// # Shapes
    /// As [`MultiHeadAttention::forward`].
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn forward_projected(
        &self,
        queries: &Tensor,
        [k, v]: &[Tensor; 2],
        causal: bool,
        key_mask: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        let d = self.out_bias.elem_count();
        let (weight, bias) = (
            self.in_weight.narrow(0, 0, d)?,
            self.in_bias.narrow(0, 0, d)?,
        );
        let q = linear(queries, &weight, Some(&bias))?;
        self.attend(&q, k, v, causal, key_mask, mode)
    }

    /// Weight (3d, d) and bias (3d) of the projections of queries, keys and values.
    pub fn projection(&self) -> (&Tensor, &Tensor) {
        (&self.in_weight, &self.in_bias)
    }

    fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        causal: bool,
        key_mask: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        let drop = (self.dropout, mode);
        let seen = dot_product_attention(q, k, v, self.heads, causal, key_mask, drop)?;
        linear(&seen, &self.out_weight, Some(&self.out_bias))
    }
}
