//! Samples that come in chunks.

use candle_core::DType;
use decalign_core::{Error, Result};

use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::mmd::Mmd;
use crate::sample::Sample;

/// The mean of the unbiased `MMD^2` of chunks, weighted by the size of the smaller of their samples: it needs
/// memory for one chunk. It is as precise as [`Mmd::blocks`] with blocks of that size and carries no gradients.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{Kernel, StreamingMmd};
/// let mut stream = StreamingMmd::new(Kernel::energy());
/// for chunk in 0..3 {
///     let x = Tensor::new(&[[0f32], [1.0 + chunk as f32]], &Device::Cpu)?;
///     stream.push(&x, &(&x + 1.0)?)?;
/// }
/// // Chunks of two points say little: the standard deviation is as large as the mean.
/// assert!(stream.squared()?.powi(2) < 4.0 * stream.variance().unwrap());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamingMmd {
    mmd: Mmd,
    chunks: usize,
    weight: f64,
    squares: f64,
    mean: f64,
    /// `sum w (v - mean)^2`.
    spread: f64,
}

impl StreamingMmd {
    /// With the given kernel.
    pub fn new(kernel: Kernel) -> Self {
        Self {
            mmd: Mmd::new(kernel, Estimator::Unbiased),
            chunks: 0,
            weight: 0.0,
            squares: 0.0,
            mean: 0.0,
            spread: 0.0,
        }
    }

    /// Adds a chunk of both samples.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d), plain or with weights (n) and (m), on the same scale in all chunks; n, m >= 2.
    ///
    /// # Errors
    /// As [`Mmd::squared`]; earlier chunks are kept.
    pub fn push(&mut self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<()> {
        let (x, y) = (x.into().detach(), y.into().detach());
        let value = self.mmd.squared(&x, &y)?;
        let value = value.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        // West (1979): a running weighted mean and spread.
        let weight = x.mass()?.min(y.mass()?);
        self.chunks += 1;
        self.weight += weight;
        self.squares += weight * weight;
        let before = value - self.mean;
        self.mean += before * weight / self.weight;
        self.spread += weight * before * (value - self.mean);
        Ok(())
    }

    /// The number of chunks so far.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// The estimate so far.
    ///
    /// # Errors
    /// Before the first chunk.
    pub fn squared(&self) -> Result<f64> {
        match self.chunks {
            0 => Err(Error::value("number of chunks", 0, "push one first")),
            _ => Ok(self.mean),
        }
    }

    /// The variance of the estimate, from the spread of the chunks; `None` below two chunks.
    pub fn variance(&self) -> Option<f64> {
        let left = self.weight - self.squares / self.weight;
        let variance = self.spread / left * self.squares / (self.weight * self.weight);
        (self.chunks >= 2).then_some(variance)
    }
}
