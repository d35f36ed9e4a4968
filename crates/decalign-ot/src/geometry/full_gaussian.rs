//! Costs between Gaussians with full covariances.

use candle_core::{DType, Device, Tensor};
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Error, Real, Result, parallel, with_real};

use super::eigen::{Singular, singular, symmetric, weighted_squares};
use super::reduction::Reduction;
use crate::tensor_convert::read;

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

/// Entropic transport between Gaussians in closed form, `C = |x - y|^2`:
///
/// ```text
/// min over P  <P, C> + eps KL(P | a x b)
///   = |m - m'|^2 + tr A + tr B + sum_i (-D_i + eps/2 (1 + log((D_i + eps/2) / eps))),
/// D = (4 A^{1/2} B A^{1/2} + eps^2/4 I)^{1/2}
/// ```
///
/// It carries gradients with respect to means and covariances, finite at singular ones, and tends
/// to [`bures_wasserstein`] as eps goes to 0.
///
/// # Shapes
/// `mean` (K, d), `covariance` (K, d, d), `mean2` (L, d) and `covariance2` (L, d, d), f32 or f64;
/// the result is (K, L).
///
/// # Errors
/// As [`bures_wasserstein`], and when epsilon is not positive and finite.
///
/// Source: Janati, Muzellec, Peyre and Cuturi (2020), with `eps = 2 sigma^2`; Mallasto, Gerolin and
/// Minh (2020).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::entropic_gaussian;
/// let (m, n) = (Tensor::new(&[[0.0f64]], &Device::Cpu)?, Tensor::new(&[[3.0f64]], &Device::Cpu)?);
/// let v = Tensor::new(&[[[1.0f64]]], &Device::Cpu)?;
/// // Without structure left, the cost is that of independent points: 9 + 1 + 1.
/// let cost = entropic_gaussian((&m, &v), (&n, &v), 1e6)?;
/// assert!((cost.to_vec2::<f64>()?[0][0] - 11.0).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn entropic_gaussian(
    (mean, covariance): (&Tensor, &Tensor),
    (mean2, covariance2): (&Tensor, &Tensor),
    epsilon: f64,
) -> Result<Tensor> {
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        return Err(Error::value(
            "epsilon",
            epsilon,
            "must be positive and finite",
        ));
    }
    let inputs = [mean, covariance, mean2, covariance2];
    costs("entropic_gaussian", inputs, epsilon, |_| 1.0)
}

/// Singular values below this much of the larger covariance's norm count as so much in slopes.
const FLOOR: f64 = 1e-8;

/// What a singular value of `A^{1/2} B^{1/2}` does to the cost.
struct Spectrum {
    epsilon: f64,
}

impl Spectrum {
    fn root(&self, value: f64) -> f64 {
        (2.0 * value).hypot(0.5 * self.epsilon)
    }

    /// `-2 s` without regularisation.
    fn cost(&self, value: f64) -> f64 {
        let half = 0.5 * self.epsilon;
        if half == 0.0 {
            return -2.0 * value;
        }
        // D - eps/2 without cancellation.
        let above = 2.0 * value * (2.0 * value / (self.root(value) + half));
        half * (above / self.epsilon).ln_1p() - above
    }

    /// Minus the derivative with respect to the square, `1 / s` without regularisation.
    fn slope(&self, value: f64, floor: f64) -> f64 {
        let value = if self.epsilon > 0.0 {
            value
        } else {
            value.max(floor)
        };
        match 2.0 / (self.root(value) + 0.5 * self.epsilon) {
            slope if slope.is_finite() => slope,
            // Two points: there is nothing to move.
            _ => 0.0,
        }
    }
}

/// Gaussians as numbers.
struct Gaussians {
    means: Vec<f64>,
    roots: Vec<f64>,
    traces: Vec<f64>,
    norms: Vec<f64>,
    width: usize,
}

impl Gaussians {
    fn read(side: &str, mean: &Tensor, covariance: &Tensor) -> Result<Self> {
        let (count, d) = match (mean.dims(), covariance.dims()) {
            ([k, d], [k2, rows, columns]) if k == k2 && d == rows && d == columns && k * d > 0 => {
                (*k, *d)
            }
            _ => {
                let got = (mean.shape(), covariance.shape());
                let name = format!("mean{side} and covariance{side}");
                return Err(Error::tensor(name, "(K, d) and (K, d, d), not empty", got));
            }
        };
        let (means, covariances) = (read::<f64>(mean)?, read::<f64>(covariance)?);
        for (name, numbers) in [("mean", &means), ("covariance", &covariances)] {
            if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
                let name = format!("{name}{side}, element {at},");
                return Err(Error::value(name, numbers[at], "must be finite"));
            }
        }
        let tolerance = match mean.dtype() {
            DType::F32 => f64::from(f32::EPSILON).sqrt(),
            _ => f64::EPSILON.sqrt(),
        };
        let mut all = Self {
            means,
            roots: Vec::with_capacity(covariances.len()),
            traces: Vec::with_capacity(count),
            norms: Vec::with_capacity(count),
            width: d,
        };
        let eigen = parallel::map(count, count * 100 * d * d * d, |k| {
            let covariance = &covariances[k * d * d..][..d * d];
            let covariance = balanced(covariance, d, tolerance, (side, k))?;
            Ok::<_, Error>(symmetric(&covariance, d))
        });
        for (k, eigen) in eigen.into_iter().enumerate() {
            let eigen = eigen?;
            let least = eigen.values.iter().fold(f64::INFINITY, |m, v| v.min(m));
            if least < -tolerance * eigen.norm() {
                let name = format!("the least eigenvalue of covariance{side} {k}");
                let remedy = "must not be negative; add to the diagonal";
                return Err(Error::value(name, least, remedy));
            }
            all.roots.extend(eigen.map(|v| v.max(0.0).sqrt()));
            all.traces
                .push(eigen.values.iter().map(|v| v.max(0.0)).sum());
            all.norms.push(eigen.norm());
        }
        Ok(all)
    }

    fn len(&self) -> usize {
        self.norms.len()
    }

    fn mean(&self, k: usize) -> &[f64] {
        &self.means[k * self.width..][..self.width]
    }

    fn root(&self, k: usize) -> &[f64] {
        &self.roots[k * self.width * self.width..][..self.width * self.width]
    }
}

/// The mean of both triangles.
fn balanced(a: &[f64], d: usize, tolerance: f64, (side, k): (&str, usize)) -> Result<Vec<f64>> {
    let largest = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let mut out = a.to_vec();
    for i in 0..d {
        for j in 0..i {
            let (x, y) = (a[i * d + j], a[j * d + i]);
            if (x - y).abs() > tolerance * largest {
                let name = format!("covariance{side} {k} at ({i}, {j})");
                let remedy = format!("must equal {y} at ({j}, {i}): covariances are symmetric");
                return Err(Error::value(name, x, remedy));
            }
            let mean = 0.5 * x + 0.5 * y;
            (out[i * d + j], out[j * d + i]) = (mean, mean);
        }
    }
    Ok(out)
}

fn costs(
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
            a: Gaussians::read("", inputs[0], inputs[1])?,
            b: Gaussians::read("2", inputs[2], inputs[3])?,
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
    a: Gaussians,
    b: Gaussians,
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
