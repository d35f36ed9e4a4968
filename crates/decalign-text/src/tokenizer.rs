//! From texts to tokens.

use std::path::Path;

use candle_core::{DType, Tensor};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

use crate::tokens::Tokens;
use crate::{Error, Result};

/// The tokeniser of a folder.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    longest: usize,
}

impl Tokenizer {
    /// From `tokenizer.json` of a folder, or from its `vocab.txt` (word pieces; lower case unless
    /// `tokenizer_config.json` says `"do_lower_case": false`). Texts are cut at `longest` tokens.
    ///
    /// # Errors
    /// When neither file exists, or it is not a tokeniser.
    pub fn open(folder: impl AsRef<Path>, longest: usize) -> Result<Self> {
        let folder = folder.as_ref();
        let (path, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        let mut inner = match path.exists() {
            true => tokenizers::Tokenizer::from_file(&path)
                .map_err(|error| Error::file(&path, error))?,
            false => word_pieces(folder, &vocabulary)?,
        };
        // Two special tokens surround a text.
        if longest < 3 {
            let message = format!("texts cannot be cut at {longest} tokens: 3 or more are needed");
            return Err(Error::file(folder, message));
        }
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: longest,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        inner
            .with_truncation(Some(truncation))
            .map_err(|error| Error::file(folder, error))?;
        // `Tokens::from_ids` pads batches.
        inner.with_padding(None);
        Ok(Self { inner, longest })
    }

    /// The maximum length of a text in tokens.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The tokens of each text, special ones included.
    ///
    /// # Errors
    /// When a text cannot be tokenised.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        let inputs: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = self
            .inner
            .encode_batch_fast(inputs, true)
            .map_err(|error| Error::value("a text", "not tokenised", error.to_string()))?;
        Ok(encodings.iter().map(|e| e.get_ids().to_vec()).collect())
    }

    /// Texts in the layout of MMSA's files: token numbers, attention mask and segments, (N, 3, T) of f32, padded with `padding`; see
    /// [`Tokens::from_rows`].
    ///
    /// # Errors
    /// When there is no text, or one cannot be tokenised.
    pub fn rows<S: AsRef<str> + Sync>(&self, texts: &[S], padding: u32) -> Result<Tensor> {
        let tokens = Tokens::from_ids(&self.encode(texts)?, padding)?;
        let rows = [&tokens.ids, &tokens.mask, &tokens.segments];
        let rows = rows.map(|row| row.to_dtype(DType::F32));
        let rows = rows.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::stack(&rows, 1)?)
    }
}

/// The word piece tokeniser of BERT from a vocabulary.
fn word_pieces(folder: &Path, path: &Path) -> Result<tokenizers::Tokenizer> {
    let bad = |error: &dyn std::fmt::Display| Error::file(path, error);
    let Some(text) = path.to_str().filter(|_| path.exists()) else {
        let message = "neither tokenizer.json nor vocab.txt is in this folder";
        return Err(Error::file(folder, message));
    };
    let model = WordPiece::from_file(text)
        .build()
        .map_err(|error| bad(&error))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    let special = |token: &str| match inner.token_to_id(token) {
        Some(id) => Ok((token.to_owned(), id)),
        None => Err(bad(&format!("the token {token} is missing"))),
    };
    let (end, start) = (special("[SEP]")?, special("[CLS]")?);
    special("[UNK]")?;
    let lowercase = lowercase(folder)?;
    let normalizer = BertNormalizer::new(true, true, None, lowercase);
    inner
        .with_normalizer(Some(normalizer))
        .map_err(|error| bad(&error))?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_post_processor(Some(BertProcessing::new(end, start)));
    Ok(inner)
}

/// True if texts are converted to lower case.
fn lowercase(folder: &Path) -> Result<bool> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(true);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
    Ok(value["do_lower_case"].as_bool().unwrap_or(true))
}
