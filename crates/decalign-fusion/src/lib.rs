//! Cross-modal attention and transformer encoders for any number of modalities.
//!
//! Each modality is a [`MaskedSequence`] of steps. An encoder a modality turns it into features of the same length, by
//! attending to the steps of all the others:
//!
//! ```text
//! h_m = encoder_m(x_m, [x_1, ..., x_m-1, x_m+1, ..., x_M])
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`CrossModalEncoder`] | one encoder a modality, each attending to all the others |
//! | [`Encoder`], [`EncoderLayer`] | transformer layers, post- or pre-norm, self- or cross-attending |
//! | [`Position`] | none, sinusoidal, learned, rotary |
//! | [`Presence`] | samples that lack a modality |
//! | [`PooledHead`], [`Pool`] | one vector a sequence, and predictions |
//! | [`MultiHeadAttention`] | attention with its projections; causal, key mask, bias, sources of other widths |
//! | [`dot_product_attention`] | the same without: `softmax(q k^T / sqrt(d / H) + bias) v`, weights never kept |
//! | [`attention_weights`] | what each query takes from each key |
//! | [`project`], [`project_context`], [`residual_norm`], [`gelu()`], [`rotate`] | the fused pieces |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Everything carries gradients, on any device: in fused loops on the CPU, attention, projections, norms and means in kernels on CUDA and Metal.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use decalign_core::nn::{Mode, Parameters};
//! use decalign_fusion::{Attention, CrossModalEncoder, Encoder, EncoderSettings, LayerSettings, MaskedSequence};
//!
//! let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
//! let settings = EncoderSettings::new(2, LayerSettings::new(8, 2));
//! let encoders = ["text", "audio"]
//!     .iter()
//!     .map(|name| Encoder::new(&parameters.scope(name), settings))
//!     .collect::<Result<_, _>>()?;
//! let encoder = CrossModalEncoder::new(encoders)?;
//! let stream = |steps| -> candle_core::Result<_> {
//!     Ok(Some(MaskedSequence::new(Tensor::ones((3, steps, 8), DType::F32, &Device::Cpu)?)))
//! };
//! let encoded = encoder.forward(&[stream(5)?, stream(9)?], Attention::Cross, Mode::Inference)?;
//! assert_eq!(encoded[1].as_ref().unwrap().dims(), [3, 9, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attention;
mod attention_shape;
mod cross_modal;
mod encoder;
mod feed_forward;
mod head;
mod layer;
mod mask;
mod masked_sequence;
mod op;
mod pool;
mod position;
mod presence;
pub mod reference;

pub use attention::{AttentionParts, MultiHeadAttention, attention_weights, dot_product_attention};
pub use cross_modal::{Attention, CrossModalEncoder};
pub use decalign_core::{Error, Result};
pub use encoder::{Encoder, EncoderSettings};
pub use feed_forward::Activation;
pub use head::{HeadSettings, Join, PooledHead, Task};
pub use layer::{EncoderLayer, LayerParts, LayerSettings, Norm};
pub use mask::AttentionMask;
pub use masked_sequence::MaskedSequence;
pub use op::gelu::gelu;
pub use op::projection::{project, project_context};
pub use op::residual_norm::residual_norm;
pub use op::rotary::rotate;
pub use pool::{Pool, Pooling, last_pool, max_pool, mean_pool};
pub use position::Position;
pub use presence::Presence;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<decalign_core::device::Program>> {
    use candle_core::DType::{BF16, F16, F32, F64};
    let mut all = Vec::new();
    for head in [4, 8, 16, 32, 64, 128] {
        for dtype in [F32, F64] {
            all.extend(op::attention::device::scalar::programs(head, dtype)?);
        }
    }
    for head in [16, 64, 128] {
        for dtype in [BF16, F16] {
            all.extend(op::attention::device::tensor_core::programs(head, dtype)?);
        }
    }
    for dtype in [F32, F64] {
        all.extend(op::device::programs(dtype)?);
    }
    Ok(all)
}
