//! Maximum mean discrepancy.

use candle_core::{DType, Tensor};
use decalign_core::device::Backend;
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::pairwise::device;
use crate::reference;
use crate::sample::{self, Sample};
use crate::statistic::{Functional, Statistic};

/// Maximum mean discrepancy with one kernel:
///
/// ```text
/// MMD^2(x, y) = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)
/// ```
///
/// It carries gradients to points, weights and learned bandwidths; of a single result they are
/// computed in the same pass as the value. Kernel values are never stored: memory is O(n d).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{Estimator, Kernel, Mmd};
/// let x = Tensor::new(&[[0f32], [1.0], [2.0]], &Device::Cpu)?;
/// let mmd = Mmd::new(Kernel::energy(), Estimator::Biased);
/// // The energy distance of a shifted sample.
/// let far = mmd.squared(&x, &(&x + 10.0)?)?.to_scalar::<f32>()?;
/// assert!((far - (20.0 - 2.0 * 8.0 / 9.0)).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Gretton and others, A kernel two-sample test, JMLR 2012.
#[derive(Clone, Debug)]
pub struct Mmd {
    kernel: Kernel,
    estimator: Estimator,
}

impl Mmd {
    /// With the given kernel and estimator.
    pub fn new(kernel: Kernel, estimator: Estimator) -> Self {
        Self { kernel, estimator }
    }

    /// `MMD^2(x, y)`, never negative with the biased estimator.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d), plain or with weights (n) and (m); n, m >= 1, or 2 for the unbiased
    /// estimator. The result is a scalar.
    ///
    /// # Errors
    /// When shapes or dtypes differ, an entry is not finite, weights are negative or all 0, or sums
    /// overflow.
    pub fn squared(&self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<Tensor> {
        self.one(&[x.into(), y.into()], Functional::mmd(0, 1, 1.0))
    }

    /// `MMD(x, y) = sqrt(max(MMD^2, 0))`, a distance; the gradient is 0 where the value is 0.
    ///
    /// # Shapes
    /// As [`Mmd::squared`].
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    pub fn root(&self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<Tensor> {
        root(&self.squared(x, y)?)
    }

    /// The mean of `MMD^2` over all pairs of M samples, each pair of points met once.
    ///
    /// # Shapes
    /// M >= 2 samples, as [`Mmd::squared`]. The result is a scalar.
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    pub fn mean_over_pairs<'a, S>(&self, given: &'a [S]) -> Result<Tensor>
    where
        &'a S: Into<Sample>,
    {
        let samples = at_least_two(sample::samples(given))?;
        let functional = Functional::mean_over_pairs(samples.len());
        self.one(&samples, functional)
    }

    /// `MMD^2` between all pairs of M samples, 0 on the diagonal.
    ///
    /// # Shapes
    /// As [`Mmd::mean_over_pairs`]. The result is (M, M).
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    pub fn matrix<'a, S>(&self, given: &'a [S]) -> Result<Tensor>
    where
        &'a S: Into<Sample>,
    {
        let family = MmdFamily::new(vec![self.kernel.clone()], self.estimator);
        Ok(family.matrices(given)?.squeeze(0)?)
    }

    fn one(&self, samples: &[Sample], functional: Functional) -> Result<Tensor> {
        let statistic = Statistic {
            kernels: vec![self.kernel.clone()],
            estimator: self.estimator,
            functionals: vec![functional],
            squares: true,
            scalar: true,
        };
        evaluate(statistic, samples)
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }
}

/// Maximum mean discrepancies of several kernels in one pass, which share the distances.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{Estimator, Kernel, MmdFamily};
/// let x = Tensor::new(&[[0f32], [1.0], [2.0]], &Device::Cpu)?;
/// let kernels = [0.5, 1.0, 2.0].map(Kernel::gaussian_length_scale);
/// let kernels = kernels.into_iter().collect::<Result<Vec<_>, _>>()?;
/// let each = MmdFamily::new(kernels, Estimator::Unbiased).squared(&x, &(&x + 1.0)?)?;
/// assert_eq!(each.dims(), [3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MmdFamily {
    kernels: Vec<Kernel>,
    estimator: Estimator,
}

impl MmdFamily {
    /// With the given kernels and estimator.
    pub fn new(kernels: Vec<Kernel>, estimator: Estimator) -> Self {
        Self { kernels, estimator }
    }

    /// `MMD^2(x, y)` of each of Q kernels.
    ///
    /// # Shapes
    /// As [`Mmd::squared`]. The result is (Q).
    ///
    /// # Errors
    /// As [`Mmd::squared`], and without a kernel.
    pub fn squared(&self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<Tensor> {
        self.all(&[x.into(), y.into()], vec![Functional::mmd(0, 1, 1.0)])
    }

    /// The mean of `MMD^2` over all pairs of M samples, of each of Q kernels.
    ///
    /// # Shapes
    /// As [`Mmd::mean_over_pairs`]. The result is (Q).
    ///
    /// # Errors
    /// As [`MmdFamily::squared`].
    pub fn mean_over_pairs<'a, S>(&self, given: &'a [S]) -> Result<Tensor>
    where
        &'a S: Into<Sample>,
    {
        let samples = at_least_two(sample::samples(given))?;
        let functional = Functional::mean_over_pairs(samples.len());
        self.all(&samples, vec![functional])
    }

    /// `MMD^2` between all pairs of M samples, of each of Q kernels; 0 on the diagonals.
    ///
    /// # Shapes
    /// As [`Mmd::mean_over_pairs`]. The result is (Q, M, M).
    ///
    /// # Errors
    /// As [`MmdFamily::squared`].
    pub fn matrices<'a, S>(&self, given: &'a [S]) -> Result<Tensor>
    where
        &'a S: Into<Sample>,
    {
        let samples = at_least_two(sample::samples(given))?;
        let m = samples.len();
        let pairs: Vec<(usize, usize)> = (0..m).flat_map(|j| (0..j).map(move |i| (i, j))).collect();
        let functionals = pairs.iter().map(|(i, j)| Functional::mmd(*i, *j, 1.0));
        let values = self.all(&samples, functionals.collect())?;
        let zeros = Tensor::zeros((self.kernels.len(), 1), values.dtype(), values.device())?;
        let values = values.reshape((self.kernels.len(), pairs.len()))?;
        let values = Tensor::cat(&[&values, &zeros], 1)?;
        let position = |i: usize, j: usize| {
            let (low, high) = (i.min(j), i.max(j));
            if i == j {
                pairs.len()
            } else {
                high * (high - 1) / 2 + low
            }
        };
        let index = (0..m * m)
            .map(|at| position(at / m, at % m) as u32)
            .collect::<Vec<_>>();
        let index = Tensor::from_vec(index, m * m, values.device())?;
        Ok(values
            .index_select(&index, 1)?
            .reshape((self.kernels.len(), m, m))?)
    }

    fn all(&self, samples: &[Sample], functionals: Vec<Functional>) -> Result<Tensor> {
        if self.kernels.is_empty() {
            return Err(Error::value(
                "number of kernels",
                0,
                "at least one is needed",
            ));
        }
        let statistic = Statistic {
            kernels: self.kernels.clone(),
            estimator: self.estimator,
            functionals,
            squares: true,
            scalar: false,
        };
        evaluate(statistic, samples)
    }
}

fn at_least_two(samples: Vec<Sample>) -> Result<Vec<Sample>> {
    match samples.len() {
        0 | 1 => {
            let remedy = "at least two are compared";
            Err(Error::value("number of samples", samples.len(), remedy))
        }
        _ => Ok(samples),
    }
}

/// By the fused loops on the CPU and the device kernels where there is one, else by the reference.
pub(crate) fn evaluate(statistic: Statistic, samples: &[Sample]) -> Result<Tensor> {
    let Some(first) = samples.first() else {
        return statistic.evaluate(samples);
    };
    let Some(backend) = Backend::of(&first.points)? else {
        return statistic.evaluate(samples);
    };
    match device::evaluate(&backend, &statistic, samples)? {
        Some(values) => Ok(values),
        None => reference::evaluate(&statistic, samples),
    }
}

/// `sqrt(max(v, 0))`, its gradient 0 where the value is.
pub(crate) fn root(v: &Tensor) -> Result<Tensor> {
    if Backend::of(v)?.is_some() {
        // A root below epsilon is rounding error, and so is its gradient.
        let epsilon = match v.dtype() {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        let kept = v.gt(epsilon * epsilon)?;
        let root = kept.where_cond(v, &v.ones_like()?)?.sqrt()?;
        return Ok((root * kept.to_dtype(v.dtype())?)?);
    }
    with_real!("MMD^2", v, T => root_of::<T>(v))
}

fn root_of<T: Real>(v: &Tensor) -> Result<Tensor> {
    let roots: Vec<T> = {
        let v = Elements::<T>::new(v)?;
        v.iter()
            .map(|v| if *v > T::zero() { v.sqrt() } else { T::zero() })
            .collect()
    };
    let output = Output::new(roots.clone(), v.dims());
    record_one("mmd_root", &[v], output, move |b| {
        let outer = b.gradient(0)?;
        let outer = Elements::<T>::new(&outer)?;
        let each = roots.iter().zip(outer.iter()).map(|(root, g)| {
            // Below epsilon the square is rounding error, and so is its gradient.
            match *root > T::epsilon() {
                true => *g * T::of(0.5) / *root,
                false => T::zero(),
            }
        });
        let each: Vec<T> = each.collect();
        Ok(vec![Some(Tensor::from_vec(
            each,
            b.inputs[0].dims(),
            b.inputs[0].device(),
        )?)])
    })
}
