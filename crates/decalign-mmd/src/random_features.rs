//! Random Fourier features: an approximation of MMD in linear time.

use candle_core::{Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use crate::kernel::Kernel;
use crate::sample::{self, Sample};

/// An approximation of a kernel by random frequencies w_1..w_D of its spectrum:
///
/// ```text
/// k(a, b) ~ phi(a) . phi(b),   phi(a) = (cos w_1 a, ..., cos w_D a, sin w_1 a, ..., sin w_D a) / sqrt(D)
/// ```
///
/// The mean over draws is the kernel, the standard deviation of an entry at most `1 / sqrt(2 D)`; `MMD^2`
/// is off by `O(1 / sqrt D)` in O(n d D) time. Results carry gradients to points and weights, not to
/// the kernel's bandwidth.
///
/// Source: Rahimi and Recht (2007); Zhao and Meng, FastMMD (2015).
#[derive(Clone, Debug)]
pub struct RandomFeatures {
    /// (d, D).
    frequencies: Vec<f64>,
    width: usize,
    count: usize,
}

impl RandomFeatures {
    /// `count` frequencies for points of `width` coordinates.
    ///
    /// # Errors
    /// When the kernel is not one Gaussian, Laplace or Matern kernel, or a size is 0.
    pub fn new(kernel: &Kernel, width: usize, count: usize, stream: Stream) -> Result<Self> {
        if width == 0 || count == 0 {
            let remedy = "width and count must be positive";
            return Err(Error::value(
                "size of random features",
                format!("{width} x {count}"),
                remedy,
            ));
        }
        let leaf = match kernel.terms.as_slice() {
            [term] if term.factor == 1.0 && term.leaves.len() == 1 => &term.leaves[0],
            _ => return Err(unknown("a sum, product or multiple")),
        };
        let l = leaf.bandwidth.value();
        let frequencies = leaf.family.frequencies(l, (width, count), stream);
        let frequencies = frequencies.ok_or_else(|| unknown("this one"))?;
        Ok(Self {
            frequencies,
            width,
            count,
        })
    }

    /// `phi(x)`.
    ///
    /// # Shapes
    /// `x` (n, d); the result is (n, 2 D).
    ///
    /// # Errors
    /// When the width is another, or an entry is not finite.
    pub fn features(&self, x: &Tensor) -> Result<Tensor> {
        if sample::check_points(&[x], 1, 1)? != self.width {
            let expected = format!("shape (n, {})", self.width);
            return Err(Error::tensor("sample", expected, x.shape()));
        }
        let w = Tensor::from_slice(&self.frequencies, (self.width, self.count), &Device::Cpu)?;
        let w = w.to_dtype(x.dtype())?.to_device(x.device())?;
        let angles = x.contiguous()?.matmul(&w)?;
        let scale = (self.count as f64).sqrt().recip();
        Ok((Tensor::cat(&[angles.cos()?, angles.sin()?], 1)? * scale)?)
    }

    /// The weighted mean of `phi` over a sample.
    ///
    /// # Shapes
    /// The result is (2 D).
    ///
    /// # Errors
    /// As [`RandomFeatures::features`].
    pub fn mean_embedding(&self, x: impl Into<Sample>) -> Result<Tensor> {
        let x = x.into();
        sample::check_with_weights(std::slice::from_ref(&x), 1, 1)?;
        let features = self.features(&x.points)?;
        Ok(features.broadcast_mul(&x.normalised_weights()?)?.sum(0)?)
    }

    /// The biased `MMD^2` of the approximate kernel, `|mean phi(x) - mean phi(y)|^2`: never negative.
    ///
    /// # Errors
    /// As [`RandomFeatures::features`], and when shapes or dtypes differ or an entry is not finite.
    pub fn squared(&self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<Tensor> {
        let samples = [x.into(), y.into()];
        sample::check_with_weights(&samples, 2, 1)?;
        // Subtract the common mean: angles stay small, and the kernel does not change.
        let pooled = Tensor::cat(&[&samples[0].points, &samples[1].points], 0)?.detach();
        let mean = pooled.to_dtype(candle_core::DType::F64)?.mean_keepdim(0)?;
        let mean = mean.to_dtype(pooled.dtype())?;
        let each = samples.into_iter().enumerate().map(|(i, s)| {
            sample::check_finite_tensor(i, &s.points)?;
            self.mean_embedding(Sample {
                points: s.points.broadcast_sub(&mean)?,
                weights: s.weights,
            })
        });
        let each = each.collect::<Result<Vec<_>>>()?;
        Ok((&each[0] - &each[1])?.sqr()?.sum_all()?)
    }
}

fn unknown(kernel: &str) -> Error {
    let remedy = "random features are known for one Gaussian, Laplace or Matern kernel";
    Error::value("kernel", kernel, remedy)
}
