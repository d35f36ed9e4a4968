//! Features of texts by a frozen encoder.

use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::parallel;
use decalign_fusion::mean_pool;

use crate::bert::{Bert, Freeze};
use crate::config::{BertConfig, read_config};
use crate::tokenizer::Tokenizer;
use crate::tokens::Tokens;
use crate::weights::load_weights;
use crate::{Error, Result};

/// How the states of the tokens of a text become features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextPooling {
    /// Their mean, special tokens included: sentence embeddings.
    #[default]
    Mean,
    /// The state of the first token, `[CLS]`.
    Cls,
    /// The states of all tokens, as a sequence.
    Tokens,
}

impl FromStr for TextPooling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "tokens" => Ok(Self::Tokens),
            other => Err(format!("{other} is none of mean, cls, tokens")),
        }
    }
}

/// Features of texts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encoded {
    /// (N, T, d) of f32 on the CPU, padded with zeros; T is 1 if texts are pooled.
    pub features: Tensor,
    /// The number of steps of each text.
    pub lengths: Vec<usize>,
}

/// A tokeniser and a frozen encoder, on the CPU in f32.
///
/// The encoder is the one that `model_type` in the folder's `config.json` names: `bert`, and with the feature
/// `encoders` also `distilbert`, `roberta`, `xlm-roberta`, `modernbert` and `deberta-v2`.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
    model: Model,
    pooling: TextPooling,
    normalize: bool,
}

/// The encoder.
#[derive(Clone, Debug)]
enum Model {
    Bert(Bert),
    #[cfg(feature = "encoders")]
    Other(crate::frozen::Frozen),
}

/// The other architectures, for messages.
const OTHERS: &str = "distilbert, roberta, xlm-roberta, modernbert, deberta-v2";

impl Model {
    fn open(folder: &Path) -> Result<Self> {
        let value = read_config(folder)?;
        let path = folder.join("config.json");
        // Without a type, the check of the configuration of BERT reports what is missing.
        let kind = value["model_type"].as_str().unwrap_or("bert");
        if kind == "bert" {
            let config = BertConfig::open(folder)?;
            let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
            let bert = Bert::blank(&parameters, &config, Freeze::Everything)?;
            load_weights(&parameters, "", folder)?;
            return Ok(Self::Bert(bert));
        }
        #[cfg(feature = "encoders")]
        if let Some(frozen) = crate::frozen::Frozen::open(folder, kind, &value)? {
            return Ok(Self::Other(frozen));
        }
        let remedy = match cfg!(feature = "encoders") {
            true => "",
            false => " in a program built with --features encoders",
        };
        let message = format!("model_type is {kind}: expected bert, or{remedy} one of {OTHERS}");
        Err(Error::file(&path, message))
    }

    /// The maximum length of a text in tokens.
    fn longest(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.config().max_position_embeddings,
            #[cfg(feature = "encoders")]
            Self::Other(frozen) => frozen.longest(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.config().hidden_size,
            #[cfg(feature = "encoders")]
            Self::Other(frozen) => frozen.width(),
        }
    }

    /// The padding token.
    fn padding(&self) -> u32 {
        match self {
            Self::Bert(bert) => bert.config().pad_token_id,
            #[cfg(feature = "encoders")]
            Self::Other(frozen) => frozen.padding(),
        }
    }

    fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        match self {
            Self::Bert(bert) => bert.forward(tokens, Mode::Inference),
            #[cfg(feature = "encoders")]
            Self::Other(frozen) => frozen.forward(tokens),
        }
    }
}

/// Tokens of a batch: enough for efficient matrix products, few enough to stay in the cache of a core.
const BATCH_TOKENS: usize = 512;

impl TextEncoder {
    /// Opens a folder; texts are cut at `longest` tokens, by default the maximum of the encoder.
    ///
    /// # Errors
    /// When the folder does not hold a known encoder and its tokeniser.
    pub fn open(
        folder: impl AsRef<Path>,
        longest: Option<usize>,
        pooling: TextPooling,
    ) -> Result<Self> {
        let folder = folder.as_ref();
        let model = Model::open(folder)?;
        let most = model.longest();
        let longest = longest.unwrap_or(most);
        if longest > most {
            let message = format!(
                "texts of {longest} tokens are longer than the {most} that the encoder takes"
            );
            return Err(Error::file(folder, message));
        }
        Ok(Self {
            tokenizer: Tokenizer::open(folder, longest)?,
            model,
            pooling,
            normalize: false,
        })
    }

    /// True if every vector is divided by its norm, as is usual for sentence embeddings.
    pub fn normalized(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// The number of features of a vector.
    pub fn width(&self) -> usize {
        self.model.width()
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Encodes texts; `progress` receives the number of finished texts, from any thread.
    ///
    /// Texts of similar length share a batch, so that there is little padding; batches run in parallel.
    ///
    /// # Errors
    /// When there is no text, or one cannot be encoded.
    pub fn encode<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        progress: impl Fn(usize) + Sync + Send,
    ) -> Result<Encoded> {
        let tokens = self.tokenizer.encode(texts)?;
        let batches = batches(&tokens);
        let (done, work) = (AtomicUsize::new(0), usize::MAX);
        let states = parallel::map(batches.len(), work, |i| {
            let rows = self.encode_batch(&tokens, &batches[i])?;
            let done = done.fetch_add(batches[i].len(), Ordering::Relaxed) + batches[i].len();
            progress(done);
            Ok(rows)
        });
        let states = states.into_iter().collect::<Result<Vec<_>>>()?;
        let steps = match self.pooling {
            TextPooling::Tokens => tokens.iter().map(Vec::len).max().unwrap_or(0),
            _ => 1,
        };
        let width = self.width();
        let mut features = vec![0f32; texts.len() * steps * width];
        for (i, row) in batches.iter().flatten().zip(states.iter().flatten()) {
            features[i * steps * width..][..row.len()].copy_from_slice(row);
        }
        let length = |tokens: &Vec<u32>| tokens.len().min(steps);
        Ok(Encoded {
            features: Tensor::from_vec(features, (texts.len(), steps, width), &Device::Cpu)?,
            lengths: tokens.iter().map(length).collect(),
        })
    }

    /// The features of each text of a batch.
    fn encode_batch(&self, tokens: &[Vec<u32>], batch: &[usize]) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<Vec<u32>> = batch.iter().map(|i| tokens[*i].clone()).collect();
        let batch = Tokens::from_ids(&texts, self.model.padding())?;
        let states = self.model.forward(&batch)?;
        let rows = match self.pooling {
            TextPooling::Mean => mean_pool(&states, Some(&batch.mask))?.to_vec2::<f32>()?,
            TextPooling::Cls => states.narrow(1, 0, 1)?.squeeze(1)?.to_vec2::<f32>()?,
            TextPooling::Tokens => {
                let states = states.to_vec3::<f32>()?.into_iter().zip(&texts);
                states
                    .map(|(states, text)| states[..text.len()].concat())
                    .collect()
            }
        };
        let width = self.width();
        Ok(match self.normalize {
            true => rows.into_iter().map(|row| unit(row, width)).collect(),
            false => rows,
        })
    }
}

/// Divides each vector by its norm; zeros stay zeros.
fn unit(mut row: Vec<f32>, width: usize) -> Vec<f32> {
    for vector in row.chunks_exact_mut(width) {
        let square: f64 = vector.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = 1.0 / square.sqrt().max(1e-12);
        vector
            .iter_mut()
            .for_each(|v| *v = (f64::from(*v) * scale) as f32);
    }
    row
}

/// Batches of texts of similar length, longest first, so that the last batches to finish are small.
fn batches(tokens: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(tokens[*i].len()), *i));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * tokens[batch[0]].len() <= BATCH_TOKENS => {
                batch.push(i);
            }
            _ => batches.push(vec![i]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_in_one_batch_of_similar_lengths() {
        let tokens: Vec<Vec<u32>> = (0..300).map(|i| vec![1; 2 + (i * 37) % 60]).collect();
        let batches = batches(&tokens);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
        for batch in &batches {
            assert!(batch.len() * tokens[batch[0]].len() <= BATCH_TOKENS);
        }
        let padded: usize = batches.iter().map(|b| b.len() * tokens[b[0]].len()).sum();
        let real: usize = tokens.iter().map(Vec::len).sum();
        assert!(padded < real + real / 10);
        assert!(super::batches(&[]).is_empty());
    }

    #[test]
    fn a_unit_vector_has_length_one() {
        let row = unit(vec![3.0, 4.0, 0.0, 0.0], 2);
        assert_eq!(row, [0.6, 0.8, 0.0, 0.0]);
    }
}
