//! The features of a modality: a tensor in memory, or arrays in files that are read on demand.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};
use decalign_core::{Elements, parallel};

use crate::array::Array;
use crate::{Error, Result};

/// Numbers in a chunk of features: 1 MiB, which fits a core's cache.
const CHUNK: usize = 1 << 18;

/// Samples in a chunk, each of `size` numbers. A multiple of 16, so that arrays in Fortran order are read by whole cache lines.
fn chunk_rows(size: usize) -> usize {
    (CHUNK / size).max(1).next_multiple_of(16)
}

/// Padding may multiply the size of features by this, and add this many numbers: protection against a single long sequence.
const PADDING_FACTOR: usize = 64;
const PADDING_ALLOWANCE: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) enum Features {
    Held(Tensor),
    Stored(Arc<Stored>),
}

/// The samples of consecutive arrays.
#[derive(Debug)]
pub(crate) struct Stored {
    blocks: Vec<Array>,
    /// The first sample of each block, then the number of samples.
    starts: Vec<usize>,
    steps: usize,
    width: usize,
    whole: OnceLock<Tensor>,
    non_finite: OnceLock<Option<(usize, usize)>>,
}

impl Features {
    /// The samples of consecutive arrays (n, D) or (n, T, D). Shorter sequences are padded with zeros to the longest T.
    /// `invalid` makes an error of a message.
    pub(crate) fn stored(blocks: Vec<Array>, invalid: impl Fn(String) -> Error) -> Result<Self> {
        let (mut starts, mut steps, mut width) = (vec![0], 0, None);
        let mut n = 0usize;
        for block in &blocks {
            let element = block.element();
            if !(element.is_float() || element.is_integer()) {
                return Err(invalid(format!(
                    "expected numbers, got {}",
                    element.type_name()
                )));
            }
            let (samples, t, d) = match *block.shape() {
                [n, d] => (n, 1, d),
                [n, t, d] => (n, t, d),
                ref other => {
                    let message = format!("expected shape (N, D) or (N, T, D), got {other:?}");
                    return Err(invalid(message));
                }
            };
            if *width.get_or_insert(d) != d {
                let message = format!("{d} features a step after {} features", width.unwrap_or(0));
                return Err(invalid(message));
            }
            n += samples;
            steps = steps.max(t);
            starts.push(n);
        }
        let width = width.unwrap_or(0);
        let count = n.checked_mul(steps).and_then(|n| n.checked_mul(width));
        if count.is_none_or(|count| count == 0) {
            return Err(invalid(format!("shape [{n}, {steps}, {width}] is empty")));
        }
        let own: usize = blocks.iter().map(Array::count).sum();
        if count.is_some_and(|count| count > PADDING_ALLOWANCE + PADDING_FACTOR * own) {
            let message = format!(
                "{own} numbers, but {n} samples of {steps} steps of {width} with padding; cut the longest"
            );
            return Err(invalid(message));
        }
        Ok(Self::Stored(Arc::new(Stored {
            blocks,
            starts,
            steps,
            width,
            whole: OnceLock::new(),
            non_finite: OnceLock::new(),
        })))
    }

    /// N, T and D.
    pub(crate) fn dims(&self) -> (usize, usize, usize) {
        match self {
            Self::Held(tensor) => match *tensor.dims() {
                [n, t, d] => (n, t, d),
                _ => (0, 0, 0),
            },
            Self::Stored(stored) => {
                let n = stored.starts.last().copied().unwrap_or(0);
                (n, stored.steps, stored.width)
            }
        }
    }

    /// The tensor (N, T, D) in f32; read at the first call, then kept.
    pub(crate) fn tensor(&self) -> &Tensor {
        match self {
            Self::Held(tensor) => tensor,
            Self::Stored(stored) => stored.whole.get_or_init(|| {
                let (n, t, d) = self.dims();
                let mut numbers = vec![0f32; n * t * d];
                let rows = chunk_rows(t * d);
                parallel::for_each_chunk(&mut numbers, rows * t * d, n * t * d, |i, out| {
                    stored.read(i * rows..i * rows + out.len() / (t * d), out);
                });
                Tensor::from_vec(numbers, (n, t, d), &Device::Cpu)
                    .expect("as many numbers as the shape has")
            }),
        }
    }

    /// The tensor, if it is in memory.
    fn loaded(&self) -> Option<&Tensor> {
        match self {
            Self::Held(tensor) => Some(tensor),
            Self::Stored(stored) => stored.whole.get(),
        }
    }

    /// The features of the samples `rows`, which must exist, in this order.
    pub(crate) fn gather(&self, rows: &[usize]) -> Result<Vec<f32>> {
        // The elements of a sample in Fortran order are far apart: reading the whole array once is cheaper.
        if let Self::Stored(stored) = self
            && stored.blocks.iter().any(|block| !block.is_dense())
        {
            self.tensor();
        }
        let (_, t, d) = self.dims();
        let mut out = vec![0f32; rows.len() * t * d];
        match (self.loaded(), self) {
            (Some(tensor), _) => {
                let numbers = elements(tensor)?;
                for (out, row) in out.chunks_exact_mut(t * d).zip(rows) {
                    out.copy_from_slice(&numbers[row * t * d..][..t * d]);
                }
            }
            (None, Self::Stored(stored)) => {
                for (out, row) in out.chunks_exact_mut(t * d).zip(rows) {
                    stored.read(*row..*row + 1, out);
                }
            }
            (None, Self::Held(_)) => {}
        }
        Ok(out)
    }

    /// The results of `f` for every chunk, a range of samples and their numbers, in order. Threads share the work.
    pub(crate) fn map_chunks<R: Send>(
        &self,
        f: impl Fn(Range<usize>, &[f32]) -> R + Sync + Send,
    ) -> Result<Vec<R>> {
        let (n, t, d) = self.dims();
        let rows = chunk_rows(t * d);
        let range = |i: usize| i * rows..((i + 1) * rows).min(n);
        let (count, work) = (n.div_ceil(rows), n * t * d);
        Ok(match (self.loaded(), self) {
            (Some(tensor), _) => {
                let numbers = elements(tensor)?;
                let numbers: &[f32] = &numbers;
                parallel::map(count, work, |i| {
                    let rows = range(i);
                    f(rows.clone(), &numbers[rows.start * t * d..rows.end * t * d])
                })
            }
            (None, Self::Stored(stored)) => parallel::map(count, work, |i| {
                let rows = range(i);
                if let Some(numbers) = self.in_place(rows.clone()) {
                    return f(rows, numbers);
                }
                let mut numbers = vec![0f32; rows.len() * t * d];
                stored.read(rows.clone(), &mut numbers);
                f(rows, &numbers)
            }),
            (None, Self::Held(_)) => Vec::new(),
        })
    }

    /// The features of consecutive samples as a slice of the file, where it stores aligned native f32.
    fn in_place(&self, rows: Range<usize>) -> Option<&[f32]> {
        let (count, bytes) = self.plain(rows.start, rows.len())?;
        let numbers = bytemuck::try_cast_slice(bytes).ok()?;
        (count == rows.len()).then_some(numbers)
    }

    /// The features of a sample, which must exist; borrowed from the file where possible.
    pub(crate) fn sample(&self, row: usize) -> Result<Cow<'_, [f32]>> {
        if self.loaded().is_none()
            && let Some(numbers) = self.in_place(row..row + 1)
        {
            return Ok(Cow::Borrowed(numbers));
        }
        Ok(Cow::Owned(self.gather(&[row])?))
    }

    /// The index of the first NaN or infinity among all features, and their number. Scans a file once.
    pub(crate) fn non_finite(&self) -> Result<Option<(usize, usize)>> {
        let known = match self {
            Self::Held(_) => None,
            Self::Stored(stored) => Some(&stored.non_finite),
        };
        if let Some(known) = known.and_then(OnceLock::get) {
            return Ok(*known);
        }
        let (_, t, d) = self.dims();
        let found = self.map_chunks(|rows, numbers| {
            if all_finite(numbers) {
                return None;
            }
            let mut bad = (0..numbers.len()).filter(|i| !numbers[*i].is_finite());
            let first = bad.next()?;
            Some((rows.start * t * d + first, 1 + bad.count()))
        })?;
        let found: Vec<(usize, usize)> = found.into_iter().flatten().collect();
        let all = found.first().map(|(first, _)| *first);
        let all = all.map(|first| (first, found.iter().map(|(_, count)| count).sum()));
        if let Some(known) = known {
            let _ = known.set(all);
        }
        Ok(all)
    }

    /// The bytes of up to `most` consecutive samples from `start` on, where the file stores them as contiguous native f32.
    pub(crate) fn plain(&self, start: usize, most: usize) -> Option<(usize, &[u8])> {
        let Self::Stored(stored) = self else {
            return None;
        };
        let (block, row) = stored.find(start);
        let array = &stored.blocks[block];
        let rows = most.min(array.rows() - row);
        let whole = array.row_size() == stored.steps * stored.width;
        let bytes = whole.then(|| array.plain_f32(row..row + rows)).flatten()?;
        Some((rows, bytes))
    }
}

impl Stored {
    /// The block of a sample, and its row in the block.
    fn find(&self, sample: usize) -> (usize, usize) {
        let block = self.starts.partition_point(|start| *start <= sample) - 1;
        (block, sample - self.starts[block])
    }

    /// Reads samples into `out`, whose elements are 0: padding is not written.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) {
        let size = self.steps * self.width;
        let (mut at, mut out) = (rows.start, out);
        while at < rows.end {
            let (block, row) = self.find(at);
            let array = &self.blocks[block];
            let count = (rows.end - at).min(array.rows() - row);
            let (here, rest) = out.split_at_mut(count * size);
            let own = array.row_size();
            if own == size {
                array.read_rows(row..row + count, here);
            } else {
                for (i, out) in here.chunks_exact_mut(size).enumerate() {
                    array.read_rows(row + i..row + i + 1, &mut out[..own]);
                }
            }
            at += count;
            out = rest;
        }
    }
}

/// True when no number is NaN or infinite. One branch a block, so that the inner loop is vectorised.
fn all_finite(numbers: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let bad = |v: &f32| u32::from(v.to_bits() & EXPONENT == EXPONENT);
    numbers
        .chunks(1 << 12)
        .all(|block| block.iter().fold(0, |all, v| all | bad(v)) == 0)
}

/// The elements of an f32 tensor.
pub(crate) fn elements(x: &Tensor) -> Result<Elements<'_, f32>> {
    Elements::new(x).map_err(|error| Error::from(candle_core::Error::from(error)))
}
