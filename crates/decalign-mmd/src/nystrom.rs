//! The Nystrom approximation: MMD projected on a few landmarks.

use candle_core::{DType, Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Elements, Error, Result};

use crate::kernel::Kernel;
use crate::kernel_product::kernel_product;
use crate::quantiles::draw;
use crate::sample::{self, Sample};

/// MMD in the span of L landmarks z,
///
/// ```text
/// MMD^2 ~ e^T K(z, z)^-1 e,   e = mean k(z, x) - mean k(z, y)
/// ```
///
/// in O(n L d) time: the squared length of the projection of the difference of mean embeddings, so never
/// above the biased `MMD^2` (by more than rounding) and equal to it when every point is a landmark. It
/// carries gradients to points and weights; landmarks are constants.
///
/// Source: Chatalic, Schreuder, Rosasco and Rudi, Nystrom kernel mean embeddings (2022).
#[derive(Clone, Debug)]
pub struct Nystrom {
    kernel: Kernel,
    landmarks: Tensor,
    /// The inverse of the Cholesky factor of `K(z, z)`, slightly regularised, (L, L) in f64. Its condition
    /// number is the root of that of `K(z, z)`.
    inverse: Vec<f64>,
}

/// Added to the diagonal of `K(z, z)`, times its trace, so that equal landmarks do not make it singular.
const RIDGE: f64 = 1e-13;

impl Nystrom {
    /// With the given landmarks (L, d).
    ///
    /// # Errors
    /// When the kernel is not positive definite (the energy kernel), or landmarks are not finite.
    pub fn new(kernel: Kernel, landmarks: &Tensor) -> Result<Self> {
        if !kernel.is_positive_definite() {
            let remedy = "it is not positive definite: take another kernel";
            return Err(Error::value("kernel", "the energy kernel", remedy));
        }
        sample::check_points(&[landmarks], 1, 1)?;
        let landmarks = landmarks.detach();
        let count = landmarks.dims()[0];
        let wide = landmarks.to_dtype(DType::F64)?;
        let eye = Tensor::eye(count, DType::F64, &Device::Cpu)?;
        let k = kernel_product(&kernel, &[wide], &[(0, 0)], &eye)?;
        let mut k = Elements::<f64>::new(&k)?.to_vec();
        let trace: f64 = k.iter().step_by(count + 1).sum();
        k.iter_mut()
            .step_by(count + 1)
            .for_each(|v| *v += RIDGE * trace);
        let inverse = inverse(k, count).ok_or_else(|| {
            let remedy =
                "the landmarks' kernel matrix must be finite and positive definite: scale points";
            Error::value(
                "a pivot of the landmarks' kernel matrix",
                "not positive",
                remedy,
            )
        })?;
        Ok(Self {
            kernel,
            landmarks,
            inverse,
        })
    }

    /// With `count` landmarks drawn without replacement from the pooled samples.
    ///
    /// # Errors
    /// As [`Nystrom::new`], when shapes differ, and without a count.
    pub fn uniform(
        kernel: Kernel,
        samples: &[Tensor],
        count: usize,
        stream: Stream,
    ) -> Result<Self> {
        if count == 0 {
            return Err(Error::value("count", 0, "at least one landmark"));
        }
        let all: Vec<&Tensor> = samples.iter().collect();
        sample::check_points(&all, 1, 1)?;
        let pooled = Tensor::cat(&all, 0)?.detach();
        let drawn = draw(pooled.dims()[0], count, stream);
        let index = Tensor::from_vec(drawn.clone(), drawn.len(), pooled.device())?;
        Self::new(kernel, &pooled.index_select(&index, 0)?)
    }

    /// The approximate biased `MMD^2`, a scalar.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d), plain or with weights (n) and (m).
    ///
    /// # Errors
    /// When shapes or dtypes differ from the landmarks', an entry is not finite, or weights are negative
    /// or all 0.
    pub fn squared(&self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<Tensor> {
        let (x, y) = (x.into(), y.into());
        sample::check_points(&[&self.landmarks, &x.points, &y.points], 3, 1)?;
        sample::check_with_weights(&[x.clone(), y.clone()], 2, 1)?;
        let (l, dtype) = (self.landmarks.dims()[0], x.points.dtype());
        // The inverse magnifies rounding errors: compute in f64.
        let (x, y) = (x.to_dtype(DType::F64)?, y.to_dtype(DType::F64)?);
        let weights = x.difference(&y, l)?;
        let samples = [self.landmarks.to_dtype(DType::F64)?, x.points, y.points];
        let e = kernel_product(&self.kernel, &samples, &[(0, 1), (0, 2)], &weights)?;
        let e = e.narrow(0, 0, l)?;
        let inverse = Tensor::from_slice(&self.inverse, (l, l), &Device::Cpu)?;
        let projected = inverse.matmul(&e.contiguous()?)?;
        Ok(projected.sqr()?.sum_all()?.to_dtype(dtype)?)
    }
}

/// The inverse of the Cholesky factor of a positive definite matrix; `None` where there is none.
fn inverse(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for j in 0..n {
        for i in j..n {
            let sum: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let left = a[i * n + j] - sum;
            if i > j {
                a[i * n + j] = left / a[j * n + j];
            } else if left > 0.0 && left.is_finite() {
                a[j * n + j] = left.sqrt();
            } else {
                return None;
            }
        }
    }
    let mut inverse = vec![0.0; n * n];
    for c in 0..n {
        for i in c..n {
            let sum: f64 = (c..i).map(|k| a[i * n + k] * inverse[k * n + c]).sum();
            inverse[i * n + c] = (f64::from(u8::from(i == c)) - sum) / a[i * n + i];
        }
    }
    Some(inverse)
}
