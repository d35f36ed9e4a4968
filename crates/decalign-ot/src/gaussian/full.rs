//! The squared 2-Wasserstein distance between Gaussians with full covariances, and the operation it shares
//! with entropic transport.

use candle_core::{Device, Tensor};
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Error, Real, Result, parallel, with_real};

use super::eigen::{Singular, singular, weighted_squares};
use super::entropic::Spectrum;
use super::moments::Moments;
use crate::reduction::Reduction;

/// Squared 2-Wasserstein distance between Gaussians:
///
/// ```text
/// |m - m'|^2 + tr(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})
/// ```
///
/// or that over d. It is computed in f64 from the singular values of `A^{1/2} B^{1/2}`, which
/// singular covariances leave exact. The gradient with respect to A is `I - T`, T the optimal map
/// `A^{-1/2} (A^{1/2} B A^{1/2})^{1/2} A^{-1/2}`. At singular covariances the distance has none in
/// some directions (its slope is infinite): singular values below 1e-8 of the larger covariance's
/// norm are taken for so much in T, which makes it finite and large, as between Gaussians that are
/// nearly singular.
///
/// Covariances are symmetric: the mean of both triangles is used, and gradients are symmetric.
///
/// # Shapes
/// `mean` (K, d), `covariance` (K, d, d), `mean2` (L, d) and `covariance2` (L, d, d), f32 or f64;
/// the result is (K, L).
///
/// # Errors
/// When a shape or dtype does not fit, a number is not finite, or a covariance is not symmetric or
/// has a negative eigenvalue, both beyond the root of the type's precision.
///
/// Source: Dowson and Landau (1982); Bhatia, Jain and Lim (2019).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Reduction, bures_wasserstein};
/// let mean = Tensor::new(&[[0.0f64, 0.0]], &Device::Cpu)?;
/// let (a, b) = (Tensor::new(&[[[4.0f64, 0.0], [0.0, 1.0]]], &Device::Cpu)?,
///               Tensor::new(&[[[1.0f64, 0.0], [0.0, 9.0]]], &Device::Cpu)?);
/// let cost = bures_wasserstein((&mean, &a), (&mean, &b), Reduction::Sum)?;
/// // (2 - 1)^2 + (1 - 3)^2.
/// assert!((cost.to_vec2::<f64>()?[0][0] - 5.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bures_wasserstein(
    (mean, covariance): (&Tensor, &Tensor),
    (mean2, covariance2): (&Tensor, &Tensor),
    reduction: Reduction,
) -> Result<Tensor> {
    let inputs = [mean, covariance, mean2, covariance2];
    costs("bures_wasserstein", inputs, 0.0, |d| reduction.factor(d))
}

/// Singular values below this much of the larger covariance's norm count as so much in slopes.
const FLOOR: f64 = 1e-8;

/// Costs of all pairs, with gradients; `epsilon` 0 is exact transport and `factor` of the width multiplies the sum.
pub(super) fn costs(
    name: &'static str,
    inputs: [&Tensor; 4],
    epsilon: f64,
    factor: impl Fn(usize) -> f64,
) -> Result<Tensor> {
    if let Some(x) = inputs.iter().find(|x| x.dtype() != inputs[0].dtype()) {
        let expected = format!("one dtype, {:?} as of mean", inputs[0].dtype());
        return Err(Error::tensor("Gaussians", expected, x.dtype()));
    }
    let home = inputs[0].device().clone();
    let cost = with_real!("mean", inputs[0], T => {
        let all = Pairs {
            a: Moments::read("", inputs[0], inputs[1])?,
            b: Moments::read("2", inputs[2], inputs[3])?,
            spectrum: Spectrum { epsilon },
            factor: factor(inputs[0].dims()[1]),
        };
        if all.a.width != all.b.width {
            let expected = format!("shape (L, {})", all.a.width);
            return Err(Error::tensor("mean2", expected, inputs[2].shape()));
        }
        let local = inputs.map(|x| x.to_device(&Device::Cpu));
        let local = local.into_iter().collect::<candle_core::Result<Vec<Tensor>>>()?;
        let local: Vec<&Tensor> = local.iter().collect();
        let costs: Vec<T> = all.costs().into_iter().map(T::of).collect();
        let output = Output::new(costs, (all.a.len(), all.b.len()));
        record_one(name, &local, output, move |b| all.backward::<T>(b))
    })?;
    Ok(cost.to_device(&home)?)
}

/// Every Gaussian of one side with every one of the other.
struct Pairs {
    a: Moments,
    b: Moments,
    spectrum: Spectrum,
    factor: f64,
}

/// Pairs whose gradients are held at once.
const PIECE: usize = 64;

impl Pairs {
    /// Operations that a decomposition takes, about.
    fn work(&self) -> usize {
        200 * self.a.width.pow(3)
    }

    /// The singular values and vectors of `B^{1/2} A^{1/2}`.
    fn decompose(&self, pair: usize) -> Singular {
        let (k, l, d) = (pair / self.b.len(), pair % self.b.len(), self.a.width);
        let mut transposed = vec![0.0; d * d];
        let (a, b) = (self.a.root(k), self.b.root(l));
        let (a, b) = (Matrix::new(a, d, d), Matrix::new(b, d, d));
        matmul(&mut transposed, d, a, b, Store::Write);
        singular(&transposed, d)
    }

    fn costs(&self) -> Vec<f64> {
        let count = self.a.len() * self.b.len();
        parallel::map(count, count * self.work(), |pair| {
            let (k, l) = (pair / self.b.len(), pair % self.b.len());
            let means = self.a.mean(k).iter().zip(self.b.mean(l));
            let apart: f64 = means.map(|(m, n)| (m - n) * (m - n)).sum();
            let values = self.decompose(pair).values;
            let shared: f64 = values.iter().map(|v| self.spectrum.cost(*v)).sum();
            self.factor * (apart + (self.a.traces[k] + self.b.traces[l] + shared))
        })
    }

    /// The optimal maps of a pair: `B^{1/2} h(N N^T) B^{1/2}` and `A^{1/2} h(N^T N) A^{1/2}`, with
    /// `N = B^{1/2} A^{1/2}` and h the slope. No covariance is inverted.
    fn maps(&self, pair: usize) -> [Vec<f64>; 2] {
        let (k, l, d) = (pair / self.b.len(), pair % self.b.len(), self.a.width);
        let found = self.decompose(pair);
        let floor = FLOOR * self.a.norms[k].max(self.b.norms[l]);
        let slopes = found.values.iter().map(|v| self.spectrum.slope(*v, floor));
        let slopes: Vec<f64> = slopes.collect();
        [
            (&found.left, self.b.root(l)),
            (&found.right, self.a.root(k)),
        ]
        .map(|(basis, root)| {
            let mut rows = vec![0.0; d * d];
            let (basis, root) = (Matrix::new(basis, d, d), Matrix::new(root, d, d));
            matmul(&mut rows, d, basis, root, Store::Write);
            weighted_squares(&rows, &slopes)
        })
    }

    fn backward<T: Real>(&self, b: &Backward) -> Result<InputGradients> {
        let outer = b.gradient(0)?;
        let outer = Elements::<T>::new(&outer)?;
        let d = self.a.width;
        let mut gradients = b.inputs.iter().map(|x| vec![0.0; x.elem_count()]);
        let mut gradients: [Vec<f64>; 4] =
            std::array::from_fn(|_| gradients.next().unwrap_or_default());
        for first in (0..outer.len()).step_by(PIECE) {
            let count = PIECE.min(outer.len() - first);
            let maps = parallel::map(count, count * self.work(), |i| self.maps(first + i));
            for (i, maps) in maps.into_iter().enumerate() {
                let pair = first + i;
                let (k, l) = (pair / self.b.len(), pair % self.b.len());
                let g = self.factor * outer[pair].as_f64();
                for (i, (m, n)) in self.a.mean(k).iter().zip(self.b.mean(l)).enumerate() {
                    gradients[0][k * d + i] += 2.0 * g * (m - n);
                    gradients[2][l * d + i] -= 2.0 * g * (m - n);
                }
                for (map, (input, at)) in maps.iter().zip([(1, k), (3, l)]) {
                    let to = gradients[input][at * d * d..][..d * d].iter_mut();
                    for (cell, (to, v)) in to.zip(map).enumerate() {
                        let one = f64::from(u8::from(cell / d == cell % d));
                        *to += g * (one - v);
                    }
                }
            }
        }
        let tensors = gradients.into_iter().zip(b.inputs).map(|(numbers, x)| {
            let numbers: Vec<T> = numbers.into_iter().map(T::of).collect();
            Ok(Some(Tensor::from_vec(numbers, x.dims(), &Device::Cpu)?))
        });
        tensors.collect()
    }
}
