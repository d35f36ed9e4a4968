//! Cross-modal attention and transformer encoders for any number of modalities.
//!
//! | item | what it is |
//! |---|---|
//! | [`dot_product_attention`] | `softmax(q k^T / sqrt(d / H)) v`, weights never kept |
//! | [`MultiHeadAttention`] | the same with its projections |
//! | [`EncoderLayer`], [`Encoder`] | post-norm transformer layers, self- or cross-attending |
//! | [`CrossModalEncoder`] | one encoder a modality, each attending to all the others |
//! | [`mean_pool`] | one vector a sequence |
//! | [`project`], [`project_context`], [`residual_norm`] | the fused pieces |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Everything carries gradients, on any device; the fused loops run on the CPU.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use decalign_core::nn::{Mode, Parameters};
//! use decalign_fusion::{Attention, CrossModalEncoder, Encoder, LayerSettings, Stream};
//!
//! let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
//! let settings = LayerSettings {
//!     width: 8, heads: 2,
//!     attention_dropout: 0.0, relu_dropout: 0.0, residual_dropout: 0.0,
//! };
//! let encoders = ["text", "audio"]
//!     .iter()
//!     .map(|name| Encoder::new(&parameters.scope(name), 2, settings, 0.0))
//!     .collect::<Result<_, _>>()?;
//! let encoder = CrossModalEncoder::new(encoders)?;
//! let stream = |steps| -> candle_core::Result<_> {
//!     let features = Tensor::ones((3, steps, 8), DType::F32, &Device::Cpu)?;
//!     Ok(Some(Stream { features, mask: None }))
//! };
//! let encoded = encoder.forward(&[stream(5)?, stream(9)?], Attention::Cross, Mode::Inference)?;
//! assert_eq!(encoded[1].as_ref().unwrap().dims(), [3, 9, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attention;
mod encoder;
mod layer;
mod op;
mod pool;
pub mod reference;
mod size;

pub use attention::{MultiHeadAttention, dot_product_attention, dot_product_attention_reference};
pub use decalign_core::{Error, Result};
pub use encoder::{Attention, CrossModalEncoder, Encoder, Stream};
pub use layer::{EncoderLayer, LayerSettings};
pub use op::context::project_context;
pub use op::projection::project;
pub use op::residual_norm::residual_norm;
pub use pool::mean_pool;
