//! Texts as token numbers.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// A batch of texts as token numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tokens {
    /// (B, T) of u32.
    pub ids: Tensor,
    /// (B, T) of u8, 0 for padding.
    pub mask: Tensor,
    /// (B, T) of u32: the segment of each token.
    pub segments: Tensor,
}

impl Tokens {
    /// Texts of one segment, padded to the longest with `padding`.
    ///
    /// # Errors
    /// When there is no text, or none has a token.
    pub fn from_ids(texts: &[Vec<u32>], padding: u32) -> Result<Self> {
        let steps = texts.iter().map(Vec::len).max().unwrap_or(0);
        if steps == 0 {
            let remedy = "at least one text with a token is needed";
            return Err(Error::value("the batch of texts", "empty", remedy));
        }
        let shape = (texts.len(), steps);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for text in texts {
            ids.extend(text);
            ids.resize(ids.len() + steps - text.len(), padding);
            mask.resize(mask.len() + text.len(), 1u8);
            mask.resize(ids.len(), 0);
        }
        Ok(Self {
            ids: Tensor::from_vec(ids, shape, &Device::Cpu)?,
            mask: Tensor::from_vec(mask, shape, &Device::Cpu)?,
            segments: Tensor::zeros(shape, DType::U32, &Device::Cpu)?,
        })
    }

    /// Rows in the layout of MMSA's files, (B, 3, T) of numbers of any type: token numbers, then attention mask and
    /// segments in either order. Of these two, summed over the batch, the larger is the mask, the first on a tie.
    ///
    /// # Errors
    /// When the shape differs or a number is not a whole one from 0 on.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// let rows = Tensor::new(&[[[2i64, 7, 3, 0], [0, 0, 0, 0], [1, 1, 1, 0]]], &Device::Cpu)?;
    /// let tokens = decalign_text::Tokens::from_rows(&rows)?;
    /// assert_eq!(tokens.mask.to_vec2::<u8>()?, [[1, 1, 1, 0]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_rows(rows: &Tensor) -> Result<Self> {
        let (batch, three, steps) = rows.dims3().unwrap_or((0, 0, 0));
        if three != 3 || steps == 0 {
            let expected = "(B, 3, T): token numbers, attention mask, segments";
            return Err(Error::tensor("token text", expected, rows.dims()));
        }
        let numbers = rows.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let whole = |v: &f64| *v >= 0.0 && v.fract() == 0.0 && *v < f64::from(u32::MAX);
        if let Some(v) = numbers.iter().find(|v| !whole(v)) {
            let remedy = "must be a whole number from 0 on";
            return Err(Error::value("a number of the token text", v, remedy));
        }
        let row = |i: usize| -> Vec<u32> {
            let samples = numbers.chunks_exact(3 * steps);
            let part = |sample: &[f64]| sample[i * steps..(i + 1) * steps].to_vec();
            samples.flat_map(part).map(|v| v as u32).collect()
        };
        let total = |row: &[u32]| row.iter().map(|v| u64::from(*v)).sum::<u64>();
        let (mut mask, mut segments) = (row(1), row(2));
        if total(&segments) > total(&mask) {
            std::mem::swap(&mut mask, &mut segments);
        }
        let mask: Vec<u8> = mask.into_iter().map(|v| u8::from(v != 0)).collect();
        let shape = (batch, steps);
        Ok(Self {
            ids: Tensor::from_vec(row(0), shape, &Device::Cpu)?,
            mask: Tensor::from_vec(mask, shape, &Device::Cpu)?,
            segments: Tensor::from_vec(segments, shape, &Device::Cpu)?,
        })
    }

    /// A copy without the trailing padding that all texts share; at least one step remains.
    ///
    /// # Errors
    /// When the three do not have one shape (B, T).
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// let rows = Tensor::new(&[[[2i64, 3, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]], &Device::Cpu)?;
    /// assert_eq!(decalign_text::Tokens::from_rows(&rows)?.trimmed()?.dims()?, (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trimmed(&self) -> Result<Self> {
        let (_, steps) = self.dims()?;
        let mask = self.mask.to_dtype(DType::U8)?.to_vec2::<u8>()?;
        let length = |row: &Vec<u8>| row.iter().rposition(|v| *v != 0).map_or(0, |i| i + 1);
        let longest = mask.iter().map(length).max().unwrap_or(steps).max(1);
        let cut = |x: &Tensor| x.narrow(1, 0, longest);
        Ok(Self {
            ids: cut(&self.ids)?,
            mask: cut(&self.mask)?,
            segments: cut(&self.segments)?,
        })
    }

    /// B and T.
    ///
    /// # Errors
    /// When the three do not have one shape (B, T).
    pub fn dims(&self) -> Result<(usize, usize)> {
        let fits = self.ids.rank() == 2
            && self.ids.dims() == self.mask.dims()
            && self.ids.dims() == self.segments.dims();
        if !fits {
            let got = (self.ids.dims(), self.mask.dims(), self.segments.dims());
            return Err(Error::tensor(
                "tokens",
                "ids, mask and segments (B, T)",
                got,
            ));
        }
        Ok(self.ids.dims2()?)
    }
}
