//! Pooling: one vector for each sequence.

use candle_core::{D, DType, Tensor};
use decalign_core::nn::{Init, Mode, Parameters};
use decalign_core::{Error, Result};

use crate::attention::dot_product_attention;
use crate::mask::AttentionMask;
use crate::masked_sequence::MaskedSequence;
use crate::op;

/// How a sequence becomes a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// [`mean_pool`], as in DecAlign.
    #[default]
    Mean,
    /// [`max_pool`].
    Max,
    /// [`last_pool`].
    Last,
    /// Attention of a learned query (one head, no projections): `softmax(w x^T / sqrt(d)) x`.
    Attention,
}

/// A [`Pooling`] with its parameters.
///
/// Steps that do not exist are never read, whatever they hold; a sequence without steps gives zeros and zero gradients.
#[derive(Clone, Debug)]
pub struct Pool {
    pooling: Pooling,
    query: Option<Tensor>,
    width: usize,
}

impl Pool {
    /// For sequences of width `width`. The learned query is named `query`.
    ///
    /// # Errors
    /// When the width is 0.
    pub fn new(parameters: &Parameters, pooling: Pooling, width: usize) -> Result<Self> {
        let init = Init::KaimingUniform { fan_in: width };
        let query = match pooling {
            Pooling::Attention => Some(parameters.get("query", width, init)?),
            _ => None,
        };
        Ok(Self {
            pooling,
            query,
            width,
        })
    }

    /// Pools over time.
    ///
    /// # Shapes
    /// Features (B, T, d); the result is (B, d).
    ///
    /// # Errors
    /// When the shapes or dtypes do not fit.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use decalign_core::nn::Parameters;
    /// use decalign_fusion::{Pool, Pooling, MaskedSequence};
    /// let pool = Pool::new(&Parameters::new(1, DType::F32, &Device::Cpu), Pooling::Max, 2)?;
    /// let x = Tensor::new(&[[[1f32, 5.0], [3.0, 4.0], [9.0, 9.0]]], &Device::Cpu)?;
    /// let mask = Tensor::new(&[[1f32, 1.0, 0.0]], &Device::Cpu)?;
    /// assert_eq!(pool.forward(&MaskedSequence::masked(x, mask))?.to_vec2::<f32>()?, [[3.0, 5.0]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward(&self, sequence: &MaskedSequence) -> Result<Tensor> {
        sequence.check(self.width)?;
        let (x, mask) = (&sequence.features, sequence.mask.as_ref());
        match (&self.query, self.pooling) {
            (Some(query), _) => attention_pool(query, x, mask),
            (None, Pooling::Max) => max_pool(x, mask),
            (None, Pooling::Last) => last_pool(x, mask),
            (None, _) => mean_pool(x, mask),
        }
    }
}

fn attention_pool(query: &Tensor, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (batch, _, width) = x.dims3()?;
    let query = query.reshape((1, 1, width))?;
    let query = query.broadcast_as((batch, 1, width))?;
    // A weight of 0 would not keep out a NaN of a masked step.
    let x = &match mask {
        Some(mask) => or_zeros(x, &steps(x, mask)?.0.unsqueeze(2)?)?,
        None => x.clone(),
    };
    let mask = AttentionMask::default().keys(mask);
    let y = dot_product_attention(&query, x, x, 1, mask, (0.0, Mode::Inference))?;
    Ok(y.squeeze(1)?)
}

/// Which steps exist, (B, T) of u8, and whether a sequence has any, (B, 1).
fn steps(x: &Tensor, mask: &Tensor) -> Result<(Tensor, Tensor)> {
    let exists = checked(x, mask)?.ne(0.0)?;
    let any = exists.max_keepdim(1)?;
    Ok((exists, any))
}

/// The mask in the dtype of `x`; an error unless its shape is that of the steps.
fn checked(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (batch, steps, _) = dims(x)?;
    if mask.dims() != [batch, steps] {
        let expected = format!("shape ({batch}, {steps})");
        return Err(Error::tensor("pooling mask", expected, mask.shape()));
    }
    Ok(mask.to_dtype(x.dtype())?)
}

fn dims(x: &Tensor) -> Result<(usize, usize, usize)> {
    match *x.dims() {
        [b, t, d] if t > 0 => Ok((b, t, d)),
        _ => Err(Error::tensor(
            "pooled sequence",
            "shape (B, T >= 1, d)",
            x.shape(),
        )),
    }
}

/// The mean over time, or over the steps that exist: `sum_t m_t x_t / max(sum_t m_t, 1)`.
///
/// # Shapes
/// `x` (B, T, d), `mask` (B, T), which carries no gradient; the result is (B, d). A sequence without steps gives zeros.
///
/// # Errors
/// When the shapes do not fit.
pub fn mean_pool(x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (batch, steps, width) = dims(x)?;
    let mask = mask.map(|mask| checked(x, mask)).transpose()?;
    match (&mask, steps) {
        (None, 1) => Ok(x.reshape((batch, width))?),
        (mask, _) => op::mean::mean(x, mask.as_ref(), (batch, steps, width)),
    }
}

/// The largest value of each feature over the steps that exist; the first of equal ones gets the gradient.
///
/// # Shapes
/// `x` (B, T, d), `mask` (B, T); the result is (B, d). A sequence without steps gives zeros.
///
/// # Errors
/// When the shapes do not fit.
pub fn max_pool(x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    dims(x)?;
    let x = x.contiguous()?;
    let Some(mask) = mask else {
        let first = x.detach().argmax_keepdim(1)?;
        return Ok(x.gather(&first, 1)?.squeeze(1)?);
    };
    let (exists, any) = steps(&x, mask)?;
    let exists = exists.unsqueeze(2)?.broadcast_as(x.shape())?.contiguous()?;
    let lowest = Tensor::full(f64::NEG_INFINITY, x.shape(), x.device())?.to_dtype(x.dtype())?;
    let first = exists.where_cond(&x.detach(), &lowest)?.argmax_keepdim(1)?;
    or_zeros(&x.gather(&first, 1)?.squeeze(1)?, &any)
}

/// The last step that exists.
///
/// # Shapes
/// `x` (B, T, d), `mask` (B, T); the result is (B, d). A sequence without steps gives zeros.
///
/// # Errors
/// When the shapes do not fit.
pub fn last_pool(x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (_, t, _) = dims(x)?;
    let Some(mask) = mask else {
        return Ok(x.narrow(1, t - 1, 1)?.squeeze(1)?);
    };
    let (exists, any) = steps(x, mask)?;
    let indices = Tensor::arange(0u32, t as u32, x.device())?.to_dtype(DType::F32)?;
    let last = exists
        .to_dtype(DType::F32)?
        .broadcast_mul(&indices)?
        .argmax_keepdim(D::Minus1)?;
    let (batch, _, width) = x.dims3()?;
    let last = last
        .reshape((batch, 1, 1))?
        .broadcast_as((batch, 1, width))?
        .contiguous()?;
    or_zeros(&x.contiguous()?.gather(&last, 1)?.squeeze(1)?, &any)
}

/// `x` where `any`, which broadcasts to its shape, is not 0; zeros without gradient elsewhere.
fn or_zeros(x: &Tensor, any: &Tensor) -> Result<Tensor> {
    let any = any.broadcast_as(x.shape())?.contiguous()?;
    Ok(any.where_cond(x, &x.zeros_like()?.detach())?)
}
