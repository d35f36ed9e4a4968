//! Samples as the loops read them: checked, standardised, a chunk of rows at a time.

use std::ops::Range;

use candle_core::Tensor;
use decalign_core::simd::LANES;
use decalign_core::{Elements, Error, Real, Result, parallel};

use crate::row_chunk::{ROWS, RowChunk};
use crate::standardization::Standardization;

/// Data of at most this many rows is kept as chunks, so that passes do not read it again.
const KEPT_ROWS: usize = 8 * ROWS;

/// Jobs of a pass over the samples: their number does not depend on the number of threads, so sums do not either.
const JOBS: usize = 32;

/// Samples and their weights.
pub(crate) struct Samples<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) width: usize,
    pub(crate) standardization: Standardization<T>,
    /// See [`Standardization::blocks`].
    pub(crate) coordinates: Vec<[[T; LANES]; 2]>,
    /// All chunks of a small data set.
    kept: Vec<RowChunk<T>>,
    /// Weights divided by the largest; none if all are 1.
    pub(crate) weights: Option<Vec<T>>,
    /// The sum of these weights.
    pub(crate) total: f64,
    /// Reciprocal of the largest given weight.
    pub(crate) weight_scale: f64,
    /// Rows with a positive weight.
    pub(crate) counted: usize,
}

impl<'a, T: Real> Samples<'a, T> {
    pub(crate) fn new(
        x: &'a [T],
        width: usize,
        standardization: Standardization<T>,
        weights: Option<&[T]>,
    ) -> Self {
        let rows = x.len() / width;
        let mut samples = Self {
            x,
            width,
            coordinates: standardization.blocks(),
            standardization,
            kept: Vec::new(),
            weights: None,
            total: rows as f64,
            weight_scale: 1.0,
            counted: rows,
        };
        if let Some(given) = weights {
            let largest = given.iter().fold(0.0f64, |m, w| m.max(w.as_f64()));
            let scale = if largest > 0.0 { 1.0 / largest } else { 1.0 };
            let weights: Vec<T> = given.iter().map(|w| T::of(w.as_f64() * scale)).collect();
            samples.total = weights.iter().map(|w| w.as_f64()).sum();
            samples.counted = weights.iter().filter(|w| **w > T::zero()).count();
            samples.weights = Some(weights);
            samples.weight_scale = scale;
        }
        if rows <= KEPT_ROWS {
            let firsts = (0..rows).step_by(ROWS);
            samples.kept = firsts
                .map(|first| {
                    let mut chunk = RowChunk::new(width);
                    chunk.read(&samples, first);
                    chunk
                })
                .collect();
        }
        samples
    }

    /// Cuts the rows into jobs, runs `sum` on the chunks of each, beginning with `start`, and returns the results in order;
    /// `work` is the number of floating-point operations of all.
    pub(crate) fn map_chunks<S: Send>(
        &self,
        work: usize,
        start: impl Fn() -> S + Sync + Send,
        sum: impl Fn(&mut S, usize, &RowChunk<T>) + Sync + Send,
    ) -> Vec<S> {
        parallel::map(self.jobs(), work, |job| {
            let mut state = start();
            self.each_chunk(job, |first, chunk| sum(&mut state, first, chunk));
            state
        })
    }

    /// Jobs of a pass.
    pub(crate) fn jobs(&self) -> usize {
        self.rows().div_ceil(rows_per_job(self.rows()))
    }

    /// The rows of a job.
    pub(crate) fn job(&self, job: usize) -> Range<usize> {
        let size = rows_per_job(self.rows());
        job * size..self.rows().min((job + 1) * size)
    }

    /// Calls `f` with the first row and the chunk of each chunk of a job.
    #[inline]
    pub(crate) fn each_chunk(&self, job: usize, mut f: impl FnMut(usize, &RowChunk<T>)) {
        let mut buffer = None;
        for first in self.job(job).step_by(ROWS) {
            match self.kept.get(first / ROWS) {
                Some(kept) => f(first, kept),
                None => {
                    let chunk = buffer.get_or_insert_with(|| RowChunk::new(self.width));
                    chunk.read(self, first);
                    f(first, chunk);
                }
            }
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.x.len() / self.width
    }

    pub(crate) fn weight(&self, row: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[row].as_f64())
    }

    /// A standardised row.
    pub(crate) fn row(&self, i: usize) -> Vec<f64> {
        let row = &self.x[i * self.width..][..self.width];
        let (centre, scale) = (&self.standardization.centre, &self.standardization.scale);
        let each = row.iter().zip(centre.iter().zip(scale));
        each.map(|(v, (c, s))| ((*v - *c) * *s).as_f64()).collect()
    }

    /// The mass below which a component counts as empty: a millionth of a sample.
    pub(crate) fn least_mass(&self) -> f64 {
        1e-6 * self.total / self.counted.max(1) as f64
    }
}

fn rows_per_job(rows: usize) -> usize {
    rows.div_ceil(JOBS).max(KEPT_ROWS).next_multiple_of(ROWS)
}

/// Shape (n, d) or (B, n, d), nowhere 0.
pub(crate) struct SampleShape {
    pub(crate) batch: Option<usize>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl SampleShape {
    pub(crate) fn of(x: &Tensor) -> Result<Self> {
        let (batch, rows, width) = match *x.dims() {
            [rows, width] => (None, rows, width),
            [batch, rows, width] => (Some(batch), rows, width),
            _ => {
                let expected = "shape (n, d) or (B, n, d)";
                return Err(Error::tensor("data", expected, x.shape()));
            }
        };
        if x.elem_count() == 0 {
            let expected = "at least one problem, row and column";
            return Err(Error::tensor("data", expected, x.shape()));
        }
        Ok(Self { batch, rows, width })
    }

    pub(crate) fn count(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    /// `dims` after the batch dimension, if there is one.
    pub(crate) fn with(&self, dims: &[usize]) -> Vec<usize> {
        self.batch.iter().chain(dims).copied().collect()
    }
}

pub(crate) fn check_finite<T: Real>(name: &str, x: &[T], width: usize) -> Result<()> {
    let Some(first) = x.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let count = x.iter().filter(|v| !v.is_finite()).count();
    let name = format!("{name} at row {}, column {}", first / width, first % width);
    let remedy = format!("must be finite ({count} entries are not)");
    Err(Error::value(name, x[first], remedy))
}

/// Reads sample weights of shape `shape`: finite, not negative, and of a positive total in each problem.
pub(crate) fn read_weights<T: Real>(
    weights: &Tensor,
    x: &Tensor,
    shape: &[usize],
) -> Result<Vec<T>> {
    if weights.dims() != shape || weights.dtype() != x.dtype() {
        let expected = format!("shape {shape:?} of {:?}, as the data", x.dtype());
        let got = (weights.shape(), weights.dtype());
        return Err(Error::tensor("sample weights", expected, got));
    }
    let weights = Elements::<T>::new(weights)?.to_vec();
    let rows = shape.last().copied().unwrap_or(1);
    weights.chunks_exact(rows).try_for_each(check_weights)?;
    Ok(weights)
}

fn check_weights<T: Real>(weights: &[T]) -> Result<()> {
    let bad = |w: &T| !(*w >= T::zero() && w.is_finite());
    if let Some(i) = weights.iter().position(bad) {
        let name = format!("sample weight {i}");
        return Err(Error::value(
            name,
            weights[i],
            "must be finite and not negative",
        ));
    }
    if !weights.iter().any(|w| *w > T::zero()) {
        let name = "the total of the sample weights";
        return Err(Error::value(name, 0, "must be positive"));
    }
    Ok(())
}
