//! Text as tokens, the input of a BERT encoder.

use std::sync::Arc;

use crate::array::Array;
use crate::{Error, Result};

/// Token rows of every sample: input ids, attention mask, segment ids, each T long.
///
/// Public files store the last two rows in either order; [`Tokens::lengths`] tells them apart.
#[derive(Clone, Debug)]
pub struct Tokens {
    name: String,
    blocks: Arc<Vec<Array>>,
    samples: usize,
    steps: usize,
}

impl Tokens {
    pub(crate) fn new(name: &str, blocks: Vec<Array>, origin: &str) -> Result<Self> {
        let says = |message: String| Error::field(origin, format!("tokens.{name}"), message);
        let (mut samples, mut steps) = (0, 0);
        for block in &blocks {
            let [n, 3, t] = *block.shape() else {
                let message = format!("expected shape (N, 3, T), got {:?}", block.shape());
                return Err(says(message));
            };
            let element = block.element();
            if !(element.is_integer() || element.is_float()) {
                return Err(says(format!(
                    "expected integers, got {}",
                    element.type_name()
                )));
            }
            if samples > 0 && t != steps {
                return Err(says(format!("{t} tokens after {steps} tokens")));
            }
            samples += n;
            steps = t;
        }
        if samples * steps == 0 {
            return Err(says(format!("shape [{samples}, 3, {steps}] is empty")));
        }
        Ok(Self {
            name: name.to_owned(),
            blocks: Arc::new(blocks),
            samples,
            steps,
        })
    }

    pub(crate) fn blocks(&self) -> &[Array] {
        &self.blocks
    }

    /// The name of the modality, `text` in public files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// T, the number of tokens a sample, padding included.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The rows of some samples, (B, 3, T) in C order.
    ///
    /// # Errors
    /// When a sample does not exist, or a number is not a token.
    pub fn gather(&self, rows: &[usize]) -> Result<Vec<u32>> {
        let says = |message: String| Error::field("tokens", &self.name, message);
        let size = 3 * self.steps;
        let mut out = Vec::with_capacity(rows.len() * size);
        // Tokens are below 2^24: f32 holds them exactly.
        let mut row = vec![0f32; size];
        for sample in rows {
            let (mut at, mut found) = (*sample, None);
            for block in self.blocks.iter() {
                if at < block.rows() {
                    found = Some(block);
                    break;
                }
                at -= block.rows();
            }
            let Some(block) = found else {
                return Err(says(format!("sample {sample} of {}", self.samples)));
            };
            block.read_rows(at..at + 1, &mut row);
            for value in &row {
                if !(value.fract() == 0.0 && (0.0..16_777_216.0).contains(value)) {
                    return Err(says(format!("{value} in sample {sample} is no token")));
                }
                out.push(*value as u32);
            }
        }
        Ok(out)
    }

    /// The number of tokens of each sample before the padding. `None` when an attention mask is not ones, then zeros.
    ///
    /// The attention mask is the row of the last two with the larger sum over all samples; on a tie, the first.
    ///
    /// # Errors
    /// As [`Tokens::gather`].
    pub fn lengths(&self) -> Result<Option<Vec<usize>>> {
        let all: Vec<usize> = (0..self.samples).collect();
        let numbers = self.gather(&all)?;
        let (t, samples) = (self.steps, numbers.chunks_exact(3 * self.steps));
        let sum = |row: usize| -> u64 {
            let rows = samples.clone().map(|s| &s[row * t..][..t]);
            rows.flatten().map(|v| u64::from(*v)).sum()
        };
        let mask = if sum(2) > sum(1) { 2 } else { 1 };
        let length = |sample: &[u32]| {
            let row = &sample[mask * t..][..t];
            let length = row.iter().take_while(|v| **v == 1).count();
            row[length..].iter().all(|v| *v == 0).then_some(length)
        };
        Ok(samples.map(length).collect())
    }
}
