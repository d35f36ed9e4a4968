//! Cross-modal attention and transformer encoders for any number of modalities.
//!
//! Each modality is a [`MaskedSequence`]: features of steps, and which steps exist. One encoder for each modality attends to the steps
//! of all the others:
//!
//! ```text
//! h_m = encoder_m(x_m, [x_1, ..., x_m-1, x_m+1, ..., x_M])
//! ```
//!
//! ```
//! use decalign_fusion::candle_core::{DType, Device, Tensor};
//! use decalign_fusion::{
//!     Attention, CrossModalEncoder, Encoder, EncoderSettings, LayerSettings, MaskedSequence, Mode, Parameters,
//! };
//!
//! let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
//! let settings = EncoderSettings::new(2, LayerSettings::new(8, 2));
//! let encoders = ["text", "audio"]
//!     .iter()
//!     .map(|name| Encoder::new(&parameters.scope(name), settings))
//!     .collect::<Result<_, _>>()?;
//! let encoder = CrossModalEncoder::new(encoders)?;
//! let sequence = |steps| -> decalign_fusion::candle_core::Result<_> {
//!     Ok(Some(MaskedSequence::new(Tensor::ones((3, steps, 8), DType::F32, &Device::Cpu)?)))
//! };
//! let encoded = encoder.forward(&[sequence(5)?, sequence(9)?], Attention::Cross, Mode::Inference)?;
//! assert_eq!(encoded[1].as_ref().unwrap().dims(), [3, 9, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Next, [`CrossModalEncoder`] shows missing modalities, [`EncoderSettings`] the variants, and [`PooledHead`] predictions.
//!
//! | item | what it is |
//! |---|---|
//! | [`CrossModalEncoder`] | one encoder for each modality, attending to all the others |
//! | [`Encoder`], [`EncoderLayer`] | transformer layers, post- or pre-norm, self- or cross-attending |
//! | [`Position`] | none, sinusoidal, learned, rotary |
//! | [`Presence`] | which samples have which modality |
//! | [`PooledHead`], [`Pool`] | one vector for each sequence, and predictions |
//! | [`MultiHeadAttention`] | attention with its projections; causal, key mask, bias, sources of other widths |
//! | [`dot_product_attention`] | `softmax(q k^T / sqrt(d / H) + bias) v`, without projections; weights are not kept |
//! | [`attention_weights`] | the weights of that softmax |
//! | [`project`], [`project_context`], [`residual_norm`], [`gelu()`], [`rotate`] | the other fused operations |
//! | [`mod@reference`] | all operations in plain tensor operations |
//!
//! # Devices
//!
//! Everything carries gradients on every device.
//!
//! | operation | CPU | CUDA, Metal |
//! |---|---|---|
//! | attention, f32 and f64 | fused loops | kernels for heads of up to 128 coordinates; plain tensor operations above |
//! | attention, bf16 and f16 | in f32 | tensor cores on CUDA from sm_80 on for heads of a multiple of 16 up to 128 without a bias; in f32 otherwise |
//! | projections, residual norms, mean pooling | fused loops | kernels (residual norms of rows up to 4 KiB) |
//! | GELU, rotary positions, other pooling | fused loops | tensor operations on the device |

/// Builder methods of a settings type, one for each field.
macro_rules! setters {
    ($($field:ident: $type:ty),+) => {$(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
        #[must_use]
        pub fn $field(self, $field: $type) -> Self {
            Self { $field, ..self }
        }
    )+};
}

// Sequences and samples.
mod masked_sequence;
mod presence;
// Encoders, from the outside in.
mod attention;
mod attention_shape;
mod cross_modal;
mod encoder;
mod feed_forward;
mod layer;
mod mask;
mod position;
// Predictions.
mod head;
mod pool;
// The operations below, fused and in plain tensor operations.
mod op;
pub mod reference;

pub use attention::{AttentionParts, MultiHeadAttention, attention_weights, dot_product_attention};
pub use candle_core;
pub use cross_modal::{Attention, CrossModalEncoder};
pub use decalign_core::nn::{Mode, Parameters};
pub use decalign_core::random::Stream;
pub use decalign_core::{Error, ErrorKind, Result};
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
