//! Kernel MMD with a Gaussian kernel.

use candle_core::Tensor;
use decalign_core::op::{Output, record_one};
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Elements, Error, Real, Result, for_blocks, parallel, with_real};

use crate::door::{check, check_finite};
use crate::estimator::Estimator;
use crate::reference;

/// The width of a Gaussian kernel. Libraries differ in what the number means, so the constructor
/// says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// v in `exp(-|a - b|^2 / (2 v))`; `None` for the median rule.
    variance: Option<f64>,
}

impl Bandwidth {
    /// `k(a, b) = exp(-|a - b|^2 / (2 v))`, DecAlign's convention.
    ///
    /// # Errors
    /// When `v` is not positive and finite.
    pub fn variance(v: f64) -> Result<Self> {
        if !(v > 0.0 && v.is_finite()) {
            return Err(Error::value(
                "kernel variance",
                v,
                "must be positive and finite",
            ));
        }
        Ok(Self { variance: Some(v) })
    }

    /// `k(a, b) = exp(-|a - b|^2 / (2 l^2))`.
    ///
    /// # Errors
    /// When `l` is not positive and finite.
    pub fn length_scale(l: f64) -> Result<Self> {
        if !(l > 0.0 && l.is_finite()) {
            return Err(Error::value(
                "kernel length scale",
                l,
                "must be positive and finite",
            ));
        }
        Self::variance(l * l)
    }

    /// The variance is the median of `|a - b|^2` over all pairs of distinct points of the pooled
    /// samples (so the length scale is the median distance; for an even number of pairs, the lower
    /// of the two middle ones). It counts as a constant in gradients.
    pub fn median_distance() -> Self {
        Self { variance: None }
    }
}

/// Squared maximum mean discrepancy with a Gaussian kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianMmd {
    pub(crate) bandwidth: Bandwidth,
    pub(crate) estimator: Estimator,
}

impl GaussianMmd {
    /// With the given kernel width and estimator.
    pub fn new(bandwidth: Bandwidth, estimator: Estimator) -> Self {
        Self {
            bandwidth,
            estimator,
        }
    }

    /// `MMD^2(x, y)`.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d); n, m >= 1, or 2 for the unbiased estimator. The result is a scalar.
    ///
    /// # Errors
    /// When shapes or dtypes differ, or an entry is not finite.
    pub fn mmd2(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.mean_over_pairs(&[x.clone(), y.clone()])
    }

    /// The mean of `MMD^2` over all pairs of M samples, each sum within a sample computed once.
    ///
    /// # Shapes
    /// M >= 2 tensors (n_m, d). The result is a scalar.
    ///
    /// # Errors
    /// As [`GaussianMmd::mmd2`].
    pub fn mean_over_pairs(&self, samples: &[Tensor]) -> Result<Tensor> {
        let least = match self.estimator {
            Estimator::Biased => 1,
            Estimator::Unbiased => 2,
        };
        let width = check(samples, least)?;
        if !samples[0].device().is_cpu() {
            let variance = self
                .bandwidth
                .variance
                .map_or_else(|| self.host_median(samples), Ok)?;
            return reference::mean_over_pairs(samples, variance, self.estimator);
        }
        with_real!("samples", samples[0], T => self.fused::<T>(samples, width))
    }

    /// The median rule for samples that lie on a device.
    fn host_median(&self, samples: &[Tensor]) -> Result<f64> {
        let host = samples
            .iter()
            .map(|x| x.to_device(&candle_core::Device::Cpu));
        let host = host.collect::<candle_core::Result<Vec<_>>>()?;
        with_real!("samples", host[0], T => {
            let centred = centre::<T>(&host, host[0].dims()[1])?;
            Ok(median(&centred, host[0].dims()[1]))
        })
    }

    fn fused<T: Real>(&self, samples: &[Tensor], width: usize) -> Result<Tensor> {
        let data = centre::<T>(samples, width)?;
        let variance = self
            .bandwidth
            .variance
            .unwrap_or_else(|| median(&data, width));
        let wanted = samples.iter().any(|x| x.track_op());
        let plan = Plan {
            data: &data,
            width,
            variance: T::of(variance),
            wanted,
            estimator: self.estimator,
        };
        let (value, gradients) = plan.evaluate();
        let inputs: Vec<&Tensor> = samples.iter().collect();
        record_one("mmd", &inputs, Output::new(vec![value], ()), move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?[0];
            let scaled = gradients.iter().zip(b.inputs).map(|(g, x)| {
                let g: Vec<T> = g.iter().map(|v| *v * outer).collect();
                Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?))
            });
            scaled.collect()
        })
    }
}

/// The samples without the mean of all of them: distances are the same, and keep their digits.
fn centre<T: Real>(samples: &[Tensor], width: usize) -> Result<Vec<Vec<T>>> {
    let mut data = Vec::with_capacity(samples.len());
    let mut mean = vec![0.0; width];
    for (i, x) in samples.iter().enumerate() {
        let x = Elements::<T>::new(x)?;
        check_finite(i, &x, width)?;
        for row in x.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v.as_f64());
        }
        data.push(x.to_vec());
    }
    let rows: usize = data.iter().map(|x| x.len() / width).sum();
    for row in data.iter_mut().flat_map(|x| x.chunks_exact_mut(width)) {
        row.iter_mut()
            .zip(&mean)
            .for_each(|(v, m)| *v -= T::of(m / rows as f64));
    }
    Ok(data)
}

/// The median squared distance of distinct points of all samples, floored so that it can divide.
fn median<T: Real>(data: &[Vec<T>], width: usize) -> f64 {
    let rows: Vec<&[T]> = data.iter().flat_map(|x| x.chunks_exact(width)).collect();
    let mut distances = Vec::with_capacity(rows.len() * rows.len().saturating_sub(1) / 2);
    for (i, a) in rows.iter().enumerate() {
        distances.extend(rows[..i].iter().map(|b| squared_distance(a, b).as_f64()));
    }
    if distances.is_empty() {
        return 1.0;
    }
    let middle = (distances.len() - 1) / 2;
    let (_, median, _) = distances.select_nth_unstable_by(middle, f64::total_cmp);
    median.max(f64::from(f32::MIN_POSITIVE))
}

fn squared_distance<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter()
        .zip(b)
        .fold(T::zero(), |s, (a, b)| s + (*a - *b) * (*a - *b))
}

struct Plan<'a, T> {
    data: &'a [Vec<T>],
    width: usize,
    variance: T,
    wanted: bool,
    estimator: Estimator,
}

impl<T: Real> Plan<'_, T> {
    fn rows(&self, i: usize) -> usize {
        self.data[i].len() / self.width
    }

    /// The mean over pairs, and its gradient with respect to every sample.
    fn evaluate(&self) -> (T, Vec<Vec<T>>) {
        let m = self.data.len();
        let mut value = T::zero();
        let mut gradients: Vec<Vec<T>> =
            self.data.iter().map(|x| vec![T::zero(); x.len()]).collect();
        for (i, gradient) in gradients.iter_mut().enumerate() {
            for j in 0..m {
                let n = self.rows(i) as f64;
                let diagonal = i == j && self.estimator == Estimator::Unbiased;
                // Each pair of samples counts 2 / (M (M - 1)); within a sample M - 1 times.
                let weight = match (i == j, diagonal) {
                    (true, false) => 2.0 / (m as f64 * n * n),
                    (true, true) => 2.0 / (m as f64 * n * (n - 1.0)),
                    (false, _) => -2.0 / ((m * (m - 1)) as f64 * n * self.rows(j) as f64),
                };
                let sum = self.block(i, j, T::of(weight), gradient);
                let sum = if diagonal { sum - T::of(n) } else { sum };
                value += T::of(weight) * sum;
            }
        }
        (value, gradients)
    }

    /// `sum k(x, y)` over the rows of samples i and j; adds the gradient with respect to i's rows,
    /// doubled because each pair is met from both sides.
    fn block(&self, i: usize, j: usize, weight: T, gradient: &mut [T]) -> T {
        let (x, y) = (&self.data[i], &self.data[j]);
        let slope = if self.wanted {
            -T::of(2.0) * weight / self.variance
        } else {
            T::zero()
        };
        let work = (x.len() / self.width) * y.len() * 4;
        let sums = parallel::map(x.len().div_ceil(ROWS * self.width), work, |chunk| {
            let start = chunk * ROWS * self.width;
            let end = (start + ROWS * self.width).min(x.len());
            let rows = Rows {
                x: &x[start..end],
                y,
                width: self.width,
                variance: self.variance,
                slope,
            };
            simd::dispatch(rows)
        });
        let mut total = T::zero();
        for ((sum, rows), gradient) in sums.into_iter().zip(gradient.chunks_mut(ROWS * self.width))
        {
            total += sum;
            gradient.iter_mut().zip(rows).for_each(|(g, v)| *g += v);
        }
        total
    }
}

/// Rows handled by one thread.
const ROWS: usize = 64;

struct Rows<'a, T> {
    x: &'a [T],
    y: &'a [T],
    width: usize,
    variance: T,
    /// What `k (x - y)` is multiplied by in the gradient; 0 when none is wanted.
    slope: T,
}

impl<T: Real> Kernel for Rows<'_, T> {
    type Output = (T, Vec<T>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (T, Vec<T>) {
        let (width, n) = (self.width, self.y.len() / self.width);
        let wanted = self.slope != T::zero();
        let mut gradient = vec![T::zero(); if wanted { self.x.len() } else { 0 }];
        let mut kernel = vec![T::zero(); n];
        let scale = -(T::of(2.0) * self.variance).recip();
        let mut total = T::zero();
        for (r, x) in self.x.chunks_exact(width).enumerate() {
            for (k, y) in kernel.iter_mut().zip(self.y.chunks_exact(width)) {
                *k = scale * distance(isa, x, y);
            }
            for k in kernel.iter_mut() {
                *k = simd::exp_value(isa, *k);
            }
            total += simd::sum(&kernel);
            if wanted {
                let g = &mut gradient[r * width..][..width];
                for (k, y) in kernel.iter().zip(self.y.chunks_exact(width)) {
                    let a = self.slope * *k;
                    for_blocks!(at in width, {
                        let (x, y, mut sum) = (at.load(x), at.load(y), at.load(g));
                        for i in 0..LANES {
                            sum[i] = isa.mul_add(a, x[i] - y[i], sum[i]);
                        }
                        at.store(sum, g);
                    });
                }
            }
        }
        (total, gradient)
    }
}

/// `|x - y|^2`.
#[inline(always)]
fn distance<T: Real, I: Isa>(isa: I, x: &[T], y: &[T]) -> T {
    let mut sums = [T::zero(); LANES];
    for_blocks!(at in x.len(), {
        let (x, y) = (at.load(x), at.load(y));
        for i in 0..LANES {
            let e = x[i] - y[i];
            sums[i] = isa.mul_add(e, e, sums[i]);
        }
    });
    simd::total(sums)
}
