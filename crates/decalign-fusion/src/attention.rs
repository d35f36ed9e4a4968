//! Multi-head attention.

use candle_core::Tensor;
use decalign_core::nn::{Init, Mode, Parameters, linear};
use decalign_core::{Error, Result};

use crate::attention_shape::{AttentionShape, check_heads};
use crate::mask::{AttentionMask, Mask};
use crate::op::attention::attention;
use crate::op::projection::{project, project_queries};

/// Scaled dot-product attention of projected queries, keys and values, for each of H heads (Vaswani
/// and others, 2017):
///
/// ```text
/// softmax(q k^T / sqrt(d / H) + bias) v
/// ```
///
/// The weights are not kept: the backward pass computes them again, so memory is linear in the number of keys (except for a bias of
/// that size, and its gradient). A query without keys gives zeros and zero gradients. Dropout with probability `p` acts on the weights.
///
/// Tensors are f32 or f64. bf16 and f16 are computed in f32 and results rounded, except on CUDA from sm_80 on for heads of a multiple of
/// 16 up to 128 without a bias: there tensor cores multiply 16-bit numbers with sums in f32, and weights are rounded before they multiply
/// values.
///
/// # Shapes
/// `q` (B, L, d), `k` (B, S, d) and `v` (B, S, e); the result is (B, L, e). `heads` divides d and e.
///
/// # Errors
/// When the shapes or dtypes do not fit or `heads` does not divide the widths.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Mode;
/// use decalign_fusion::{AttentionMask, dot_product_attention};
/// let q = Tensor::ones((2, 3, 4), DType::F32, &Device::Cpu)?;
/// let v = Tensor::ones((2, 5, 4), DType::F32, &Device::Cpu)?;
/// let mask = AttentionMask::default().causal(true);
/// let y = dot_product_attention(&q, &v, &v, 2, mask, (0.0, Mode::Inference))?;
/// assert_eq!(y.dims(), [2, 3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// The weights of [`dot_product_attention`] without dropout.
///
/// Rows sum to 1, or are zeros for a query without keys. They are computed in plain tensor operations and take memory of their shape.
///
/// # Shapes
/// `q` (B, L, d), `k` (B, S, d); the result is (B, heads, L, S).
///
/// # Errors
/// As [`dot_product_attention`].
pub fn attention_weights(
    q: &Tensor,
    k: &Tensor,
    heads: usize,
    mask: AttentionMask,
) -> Result<Tensor> {
    crate::reference::attention_weights(q, k, heads, mask)
}

/// The weights of the projections of queries, keys and values.
#[derive(Clone, Debug)]
enum Projections {
    /// Stacked, (3d, d).
    Packed(Tensor),
    /// For sources of several widths: (d, d), (d, key width), (d, value width).
    Separate([Tensor; 3]),
    /// Separate weights of one width, (d, d) with biases (d).
    Parts {
        weights: [Tensor; 3],
        biases: [Tensor; 3],
    },
}

/// The parameters of [`MultiHeadAttention`] with separate projections of queries, keys and values, as in BERT.
#[derive(Clone, Debug)]
pub struct AttentionParts {
    /// Weights of queries, keys and values, (d, d) each.
    pub weights: [Tensor; 3],
    /// Biases of queries, keys and values, (d) each.
    pub biases: [Tensor; 3],
    /// Weight (d, d) and bias (d) of the output projection.
    pub out: [Tensor; 2],
}

/// Attention with its four projections, parameters named as PyTorch's `MultiheadAttention`.
///
/// ```text
/// attention(x W_q^T + b_q, y W_k^T, z W_v^T + b_v) W_o^T + b_o
/// ```
///
/// See [`project`](crate::project) on the bias of keys.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    projections: Projections,
    /// (3d), unless the biases are separate.
    in_bias: Option<Tensor>,
    out: [Tensor; 2],
    heads: usize,
    dropout: f64,
}

impl MultiHeadAttention {
    /// Attention of width `width` with `heads` heads and `dropout` on its weights.
    ///
    /// # Errors
    /// When `heads` does not divide `width`.
    pub fn new(parameters: &Parameters, width: usize, heads: usize, dropout: f64) -> Result<Self> {
        let shape = (3 * width, width);
        let packed = || parameters.get("in_proj_weight", shape, Init::XavierUniform);
        Self::build(parameters, width, heads, dropout, || {
            Ok(Projections::Packed(packed()?))
        })
    }

    /// Attention to keys and values of other widths than the queries (PyTorch's `kdim` and `vdim`).
    ///
    /// # Errors
    /// When `heads` does not divide `width`, or a width is 0.
    pub fn with_sources(
        parameters: &Parameters,
        width: usize,
        (keys, values): (usize, usize),
        heads: usize,
        dropout: f64,
    ) -> Result<Self> {
        if keys == 0 || values == 0 {
            return Err(Error::value("key or value width", 0, "must be at least 1"));
        }
        let part = |name, inputs| parameters.get(name, (width, inputs), Init::XavierUniform);
        Self::build(parameters, width, heads, dropout, || {
            Ok(Projections::Separate([
                part("q_proj_weight", width)?,
                part("k_proj_weight", keys)?,
                part("v_proj_weight", values)?,
            ]))
        })
    }

    /// Attention of given parameters.
    ///
    /// # Errors
    /// When the shapes do not fit each other, or `heads` does not divide d.
    pub fn from_parts(parts: AttentionParts, heads: usize, dropout: f64) -> Result<Self> {
        let AttentionParts {
            weights,
            biases,
            out,
        } = parts;
        let d = out[1].elem_count();
        check_heads(heads, d)?;
        for weight in weights.iter().chain([&out[0]]) {
            if weight.dims() != [d, d] {
                let expected = format!("shape ({d}, {d})");
                return Err(Error::tensor("attention weight", expected, weight.shape()));
            }
        }
        for bias in biases.iter().chain([&out[1]]) {
            if bias.dims() != [d] {
                let expected = format!("shape ({d})");
                return Err(Error::tensor("attention bias", expected, bias.shape()));
            }
        }
        Ok(Self {
            in_bias: None,
            projections: Projections::Parts { weights, biases },
            out,
            heads,
            dropout,
        })
    }

    fn build(
        parameters: &Parameters,
        width: usize,
        heads: usize,
        dropout: f64,
        projections: impl FnOnce() -> Result<Projections>,
    ) -> Result<Self> {
        check_heads(heads, width)?;
        let out = parameters.scope("out_proj");
        let init = Init::KaimingUniform { fan_in: width };
        Ok(Self {
            projections: projections()?,
            in_bias: Some(parameters.get("in_proj_bias", 3 * width, Init::Constant(0.0))?),
            out: [
                out.get("weight", (width, width), init)?,
                out.get("bias", width, Init::Constant(0.0))?,
            ],
            heads,
            dropout,
        })
    }

    /// Attends from `queries` to `keys` and `values`.
    ///
    /// # Shapes
    /// `queries` (B, L, d), `keys` (B, S, key width) and `values` (B, S, value width), both d unless
    /// made [with other sources](Self::with_sources); the result is (B, L, d).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use decalign_core::nn::{Mode, Parameters};
    /// use decalign_fusion::MultiHeadAttention;
    /// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    /// let attention = MultiHeadAttention::with_sources(&parameters, 8, (5, 3), 2, 0.0)?;
    /// let x = |steps: usize, width: usize| Tensor::ones((2, steps, width), DType::F32, &Device::Cpu);
    /// let (q, k, v) = (x(4, 8)?, x(6, 5)?, x(6, 3)?);
    /// let y = attention.forward(&q, &k, &v, Default::default(), Mode::Inference)?;
    /// assert_eq!(y.dims(), [2, 4, 8]);
    /// let weights = attention.weights(&q, &k, Default::default())?;
    /// assert_eq!(weights.dims(), [2, 2, 4, 6]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: AttentionMask,
        mode: Mode,
    ) -> Result<Tensor> {
        let [q, k, v] = self.project(queries, keys, values)?;
        self.attend(&q, &k, &v, mask, mode)
    }

    /// The weights of [`MultiHeadAttention::forward`], see [`attention_weights`].
    ///
    /// # Shapes
    /// `queries` and `keys` as there; the result is (B, heads, L, S).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn weights(&self, queries: &Tensor, keys: &Tensor, mask: AttentionMask) -> Result<Tensor> {
        let q = self.part(queries, 0, true)?;
        let k = self.part(keys, 1, false)?;
        attention_weights(&q, &k, self.heads, mask)
    }

    /// Queries, keys and values.
    pub(crate) fn project(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<[Tensor; 3]> {
        match (&self.projections, &self.in_bias) {
            (Projections::Packed(weight), Some(bias)) => {
                project(queries, keys, values, weight, bias)
            }
            // Packed for each call: the copy is small beside the product.
            (Projections::Parts { weights, biases }, _) => {
                let (weight, bias) = (Tensor::cat(weights, 0)?, Tensor::cat(biases, 0)?);
                project(queries, keys, values, &weight, &bias)
            }
            _ => Ok([
                self.part(queries, 0, true)?,
                self.part(keys, 1, false)?,
                self.part(values, 2, true)?,
            ]),
        }
    }

    /// The queries alone.
    pub(crate) fn project_queries(&self, queries: &Tensor) -> Result<Tensor> {
        if let Some((weight, bias)) = self.projection() {
            return project_queries(queries, weight, bias);
        }
        self.part(queries, 0, true)
    }

    /// One of the three projections.
    fn part(&self, x: &Tensor, i: usize, with_bias: bool) -> Result<Tensor> {
        let d = self.width();
        let weight = match &self.projections {
            Projections::Packed(weight) => weight.narrow(0, i * d, d)?,
            Projections::Separate(weights) | Projections::Parts { weights, .. } => {
                weights[i].clone()
            }
        };
        let bias = match (&self.projections, &self.in_bias) {
            _ if !with_bias => None,
            (Projections::Parts { biases, .. }, _) => Some(biases[i].clone()),
            (_, bias) => bias.as_ref().map(|b| b.narrow(0, i * d, d)).transpose()?,
        };
        linear(x, &weight, bias.as_ref())
    }

    /// Width of queries and results.
    fn width(&self) -> usize {
        self.out[1].elem_count()
    }

    /// The number of heads.
    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    /// Weight (3d, d) and bias (3d) of the projections of queries, keys and values; none where the projections are separate.
    pub fn projection(&self) -> Option<(&Tensor, &Tensor)> {
        match (&self.projections, &self.in_bias) {
            (Projections::Packed(weight), Some(bias)) => Some((weight, bias)),
            _ => None,
        }
    }

    /// Attention of projected queries, keys and values, and the output projection.
    ///
    /// # Shapes
    /// `q` (B, L, d), `k` and `v` (B, S, d), see [`project_context`](crate::project_context).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    pub fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: AttentionMask,
        mode: Mode,
    ) -> Result<Tensor> {
        let drop = (self.dropout, mode);
        let attended = dot_product_attention(q, k, v, self.heads, mask, drop)?;
        linear(&attended, &self.out[0], Some(&self.out[1]))
    }
}
