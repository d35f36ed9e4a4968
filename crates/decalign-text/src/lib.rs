//! Text encoders: BERT that can be fine-tuned, its tokeniser, and sentence embeddings, from local folders.
//!
//! A folder has the layout of Hugging Face: `config.json`, `model.safetensors`, and `tokenizer.json` or `vocab.txt`.
//! BERT, MiniLM and Chinese BERT are of this architecture. Nothing is downloaded. With the feature `encoders`
//! [`TextEncoder`] also takes DistilBERT, RoBERTa, XLM-RoBERTa, ModernBERT and DeBERTa, frozen, by candle-transformers.
//!
//! | item | what it is |
//! |---|---|
//! | [`TextEncoder`] | texts to vectors or sequences, frozen, batched by length |
//! | [`Bert`], [`BertConfig`] | the transformer (Devlin and others, 2019), on `decalign-fusion`'s layers |
//! | [`Freeze`] | which of its layers are not trained |
//! | [`Tokenizer`], [`Tokens`] | texts to token numbers |
//!
//! Every parameter has its gradient: Candle's own layer norm and softmax lose some, the layers of `decalign-fusion` do not. [`Bert`] runs on
//! the device of its parameters, [`TextEncoder`] on the CPU.
//!
//! ```
//! use candle_core::{DType, Device};
//! use decalign_text::{Bert, BertConfig, Freeze, Mode, Parameters, Tokens};
//!
//! let config: BertConfig = serde_json::from_str(
//!     r#"{"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
//!         "intermediate_size": 16, "max_position_embeddings": 32}"#,
//! )?;
//! let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
//! let bert = Bert::new(&parameters, &config, Freeze::Layers(1))?;
//! let tokens = Tokens::from_ids(&[vec![2, 7, 9, 3], vec![2, 5, 3]], 0)?;
//! let states = bert.forward(&tokens, Mode::Inference)?;
//! assert_eq!(states.dims(), [2, 4, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bert;
mod config;
mod encoder;
#[cfg(feature = "encoders")]
mod frozen;
mod tokenizer;
mod tokens;
mod weights;

pub use bert::{Bert, Freeze};
pub use candle_core;
pub use config::{Activation, BertConfig};
pub use decalign_core::nn::{Mode, Parameters};
pub use decalign_core::{Error, ErrorKind, Result};
pub use encoder::{Encoded, TextEncoder, TextPooling};
pub use tokenizer::Tokenizer;
pub use tokens::Tokens;
pub use weights::load_weights;
