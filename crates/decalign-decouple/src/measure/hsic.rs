//! The Hilbert-Schmidt independence criterion as a loss.

use candle_core::{D, Tensor};
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd::dot;
use decalign_core::{Error, Result};

use super::traits::{Fused, Requirements};
use crate::table::Table;
use crate::tensor;

/// Estimators of the criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HsicEstimator {
    /// `trace(K H L H) / n^2`: never negative, about 1 / n even when independent.
    Biased,
    /// 0 on average when independent, so sometimes negative; n >= 4.
    Unbiased,
    /// The biased estimate over the root of those of (a, a) and (b, b): in [0, 1]; above 0 for independent parts of few
    /// samples.
    Normalised,
}

/// How the length l of a Gaussian kernel is chosen: `exp(-|x - x'|^2 / (2 l^2))`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BandwidthRule {
    /// The median of the positive distances within the batch, of either part for itself, held constant
    /// in gradients.
    Median,
    /// The given length, for both parts.
    Fixed(f64),
}

/// The Hilbert-Schmidt independence criterion with Gaussian kernels: 0, in the limit, only for independent
/// parts, where correlations see only linear dependence.
///
/// ```text
/// HSIC(a, b) = trace(K H L H) / n^2,   H = I - 1 1^T / n
/// ```
///
/// With a fixed length the kernel matrix of wide features is the identity, and the loss carries no information; the
/// median adapts. Constant parts have value and gradient 0. Memory is O(n^2).
///
/// Parts (n, d) and (n, e), n >= 2, or 4 for [`HsicEstimator::Unbiased`].
///
/// Source: Gretton and others, Measuring statistical dependence with Hilbert-Schmidt norms (2005); unbiased: Song and
/// others, JMLR 2012, equation 5; normalised: Cortes and others, JMLR 2012 (centred kernel alignment).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{BandwidthRule, Hsic, HsicEstimator, Measure};
/// let x = Tensor::arange(-10f64, 11.0, &Device::Cpu)?.reshape((21, 1))?;
/// let hsic = Hsic::new(HsicEstimator::Normalised, BandwidthRule::Median)?;
/// // Dependent, though not correlated.
/// assert!(hsic.between(&x, &x.sqr()?)?.to_scalar::<f64>()? > 0.2);
/// assert!((hsic.between(&x, &x)?.to_scalar::<f64>()? - 1.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hsic {
    estimator: HsicEstimator,
    bandwidth: BandwidthRule,
}

impl Hsic {
    /// With an estimate and a kernel length.
    ///
    /// # Errors
    /// When a given length is not positive and finite.
    pub fn new(estimator: HsicEstimator, bandwidth: BandwidthRule) -> Result<Self> {
        if let BandwidthRule::Fixed(l) = bandwidth
            && !(l > 0.0 && l.is_finite())
        {
            let remedy = "must be positive and finite";
            return Err(Error::value("kernel length", l, remedy));
        }
        Ok(Self {
            estimator,
            bandwidth,
        })
    }
}

/// The criterion of a part with itself below which it counts as constant.
pub(crate) const CONSTANT: f64 = 1e-12;

impl Fused for Hsic {
    const NAME: &'static str = "hsic";

    fn requirements(&self) -> Requirements {
        Requirements::rows(match self.estimator {
            HsicEstimator::Unbiased => 4,
            _ => 2,
        })
        .paired()
    }

    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        let (a, b) = (Gram::new(a, self.bandwidth), Gram::new(b, self.bandwidth));
        let centring = match self.estimator {
            HsicEstimator::Unbiased => Centring::Unbiased,
            _ => Centring::Biased,
        };
        let (ka, kb) = (a.centred(centring), b.centred(centring));
        let scale = centring.scale(a.n());
        // The gradient by one kernel matrix is the other, centred.
        let across = scale * dot(&a.kernel, &kb);
        let scaled = |k: &[f64], by: f64| k.iter().map(|v| v * by).collect::<Vec<f64>>();
        if self.estimator != HsicEstimator::Normalised {
            let gradients = [
                a.backward(&scaled(&kb, scale)),
                b.backward(&scaled(&ka, scale)),
            ];
            return (across, gradients);
        }
        let within = [scale * dot(&a.kernel, &ka), scale * dot(&b.kernel, &kb)];
        if within.iter().any(|v| *v <= CONSTANT) {
            return (0.0, [a.points.zeros(), b.points.zeros()]);
        }
        let root = (within[0] * within[1]).sqrt();
        let value = across / root;
        // The derivative of x / sqrt(p q) by K is dx / sqrt(p q) - value dp / (2 p), dp = 2 centred K.
        let mix = |other: &[f64], own: &[f64], within: f64| -> Vec<f64> {
            let pairs = other.iter().zip(own);
            let each = pairs.map(|(o, k)| scale * (o / root - value * k / within));
            each.collect()
        };
        let gradients = [
            a.backward(&mix(&kb, &ka, within[0])),
            b.backward(&mix(&ka, &kb, within[1])),
        ];
        (value, gradients)
    }

    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (k, l) = (gaussian(a, self.bandwidth)?, gaussian(b, self.bandwidth)?);
        match self.estimator {
            HsicEstimator::Biased => biased(&k, &l),
            HsicEstimator::Unbiased => unbiased(&k, &l),
            HsicEstimator::Normalised => {
                let within = (biased(&k, &k)? * biased(&l, &l)?)?;
                tensor::over_root(&biased(&k, &l)?, &within, CONSTANT)
            }
        }
    }
}

fn gaussian(x: &Tensor, bandwidth: BandwidthRule) -> Result<Tensor> {
    let length = Gram::new(Table::read("points", x)?, bandwidth).length;
    let differences = x.unsqueeze(1)?.broadcast_sub(&x.unsqueeze(0)?)?;
    let squares = differences.sqr()?.sum(D::Minus1)?;
    Ok(((squares / length)? * (-0.5 / length))?.exp()?)
}

/// `trace(K H L H) / n^2`.
fn biased(k: &Tensor, l: &Tensor) -> Result<Tensor> {
    let n = k.dim(0)?;
    let h = (Tensor::eye(n, k.dtype(), k.device())? - 1.0 / n as f64)?;
    let centred = h.matmul(k)?.matmul(&h)?;
    Ok(((centred * l)?.sum_all()? / (n * n) as f64)?)
}

/// Song and others (2012), equation 5.
fn unbiased(k: &Tensor, l: &Tensor) -> Result<Tensor> {
    let n = k.dim(0)?;
    let off = (Tensor::eye(n, k.dtype(), k.device())?.neg()? + 1.0)?;
    let (k, l) = ((k * &off)?, (l * &off)?);
    let n = n as f64;
    let products = (&k * &l)?.sum_all()?;
    let sums = ((k.sum_all()? * l.sum_all()?)? / ((n - 1.0) * (n - 2.0)))?;
    let cross = ((k.sum(0)? * l.sum(0)?)?.sum_all()? * (2.0 / (n - 2.0)))?;
    Ok((((products + sums)? - cross)? / (n * (n - 3.0)))?)
}

/// How a kernel matrix is centred.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Centring {
    /// `H K H`.
    Biased,
    /// U-centred, with a diagonal of 0.
    Unbiased,
}

impl Centring {
    /// The factor of the sum of products.
    pub(crate) fn scale(self, n: usize) -> f64 {
        let n = n as f64;
        match self {
            Self::Biased => (n * n).recip(),
            Self::Unbiased => (n * (n - 3.0)).recip(),
        }
    }
}

/// A kernel matrix and the points it is of.
pub(crate) struct Gram {
    points: Table,
    pub(crate) kernel: Vec<f64>,
    /// The kernel's length.
    pub(crate) length: f64,
}

impl Gram {
    pub(crate) fn new(points: Table, bandwidth: BandwidthRule) -> Self {
        let points = points.centred();
        let n = points.n();
        let mut kernel = squared_distances(&points);
        let length = match bandwidth {
            BandwidthRule::Fixed(l) => l,
            BandwidthRule::Median => median(&kernel, n).sqrt(),
        };
        // Divide twice: the square of a small length may underflow.
        for v in &mut kernel {
            *v = (-0.5 * (*v / length) / length).exp();
        }
        Self {
            points,
            kernel,
            length,
        }
    }

    pub(crate) fn n(&self) -> usize {
        self.points.n()
    }

    /// The centred matrix: the sum of its products with another kernel matrix, scaled, is the criterion.
    pub(crate) fn centred(&self, centring: Centring) -> Vec<f64> {
        let n = self.n();
        let mut k = self.kernel.clone();
        let unbiased = centring == Centring::Unbiased;
        if unbiased {
            (0..n).for_each(|i| k[i * n + i] = 0.0);
        }
        let rows: Vec<f64> = k.chunks_exact(n).map(|row| row.iter().sum()).collect();
        let total: f64 = rows.iter().sum();
        let m = n as f64;
        let (one, both) = match centring {
            Centring::Biased => (m, m * m),
            Centring::Unbiased => (m - 2.0, (m - 1.0) * (m - 2.0)),
        };
        for (i, row) in k.chunks_exact_mut(n).enumerate() {
            for (j, v) in row.iter_mut().enumerate() {
                *v = match unbiased && i == j {
                    true => 0.0,
                    false => *v - (rows[i] + rows[j]) / one + total / both,
                };
            }
        }
        k
    }

    /// The gradient of the points, given a symmetric gradient G of the kernel matrix: with W = G o K,
    /// `dx_i = -2 / l^2 sum_j W_ij (x_i - x_j)`.
    fn backward(&self, gradient: &[f64]) -> Vec<f64> {
        let (n, width) = (self.n(), self.points.width);
        let pairs = gradient.iter().zip(&self.kernel);
        let weights: Vec<f64> = pairs.map(|(g, k)| g * k).collect();
        let mut dx = self.points.zeros();
        let view = Matrix::new(&weights, n, n);
        matmul(&mut dx, width, view, self.points.matrix(), Store::Write);
        let rows = dx.chunks_exact_mut(width).zip(self.points.rows());
        for ((dx, x), w) in rows.zip(weights.chunks_exact(n)) {
            let sum: f64 = w.iter().sum();
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = -2.0 * ((sum * x - *dx) / self.length) / self.length;
            }
        }
        dx
    }
}

/// Squared distances of all pairs of centred points; equal points are exactly 0 apart.
fn squared_distances(x: &Table) -> Vec<f64> {
    let n = x.n();
    let mut products = vec![0.0; n * n];
    matmul(&mut products, n, x.matrix(), x.matrix().t(), Store::Write);
    let squares: Vec<f64> = (0..n).map(|i| products[i * n + i]).collect();
    for i in 0..n {
        for j in 0..n {
            let sizes = squares[i] + squares[j];
            let d = sizes - 2.0 * products[i * n + j];
            // Rounding errors of equal points become 0.
            products[i * n + j] = if d > 1e-14 * sizes { d } else { 0.0 };
        }
    }
    products
}

/// The lower median of the positive squared distances of pairs; 1 when there are none.
fn median(squared: &[f64], n: usize) -> f64 {
    let above = |i: usize| squared[i * n + i + 1..(i + 1) * n].iter().copied();
    let mut all: Vec<f64> = (0..n).flat_map(above).filter(|v| *v > 0.0).collect();
    if all.is_empty() {
        return 1.0;
    }
    let middle = (all.len() - 1) / 2;
    *all.select_nth_unstable_by(middle, f64::total_cmp).1
}
