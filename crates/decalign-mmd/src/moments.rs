//! Matching the first three moments.

pub(crate) mod device;

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, Result, with_real};

use crate::reference::{self, VARIANCE_FLOOR};
use crate::sample::{check_finite, check_points};

/// The mean over all pairs of M samples of
/// `MSE(means) + MSE(covariances) + MSE(skewnesses)`.
///
/// Covariances divide by max(n - 1, 1); a skewness is the third central moment over
/// `max(var, 1e-6)^1.5`, its variance dividing by n. MSE is the mean of squared differences over
/// all entries (d, d x d and d of them).
///
/// # Shapes
/// M >= 2 tensors (n_m, d), n_m >= 1. The result is a scalar.
///
/// # Errors
/// When shapes or dtypes differ, or an entry is not finite. Entries on a device are not checked: the result is NaN then.
///
/// Source: DecAlign (ICLR 2026), homogeneous alignment, as in the reference implementation.
pub fn moment_matching(samples: &[Tensor]) -> Result<Tensor> {
    let width = check_points(&samples.iter().collect::<Vec<_>>(), 2, 1)?;
    if let Some(backend) = Backend::of(&samples[0])? {
        return match samples.len() <= device::SAMPLES {
            true => device::moment_matching(&backend, samples, width),
            false => reference::moment_matching(samples),
        };
    }
    with_real!("samples", samples[0], T => fused::<T>(samples, width))
}

fn fused<T: Real>(samples: &[Tensor], width: usize) -> Result<Tensor> {
    let moments = samples
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let x = Elements::<T>::new(x)?;
            check_finite(i, &x, width)?;
            Ok(Moments::new(&x, width))
        })
        .collect::<Result<Vec<_>>>()?;
    let (value, differences) = compare(&moments, width);
    let inputs: Vec<&Tensor> = samples.iter().collect();
    record_one(
        "moment_matching",
        &inputs,
        Output::new(vec![T::of(value)], ()),
        move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?[0].as_f64();
            let each = b
                .inputs
                .iter()
                .zip(moments.iter().zip(&differences))
                .map(|(x, (m, d))| {
                    let dx = m.backward(d, outer, width);
                    Ok(Some(Tensor::from_vec(dx, x.dims(), x.device())?))
                });
            each.collect()
        },
    )
}

/// The moments of one sample.
struct Moments<T> {
    /// The rows without their mean.
    centred: Vec<T>,
    mean: Vec<f64>,
    covariance: Vec<f64>,
    variance: Vec<f64>,
    third: Vec<f64>,
    skewness: Vec<f64>,
}

/// A gradient with respect to mean, covariance and skewness.
struct Difference {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    skewness: Vec<f64>,
}

impl<T: Real> Moments<T> {
    fn new(x: &[T], width: usize) -> Self {
        let n = x.len() / width;
        let size = n as f64;
        let means = |f: fn(f64) -> f64, rows: &[T]| -> Vec<f64> {
            let mut sums = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(s, v)| *s += f(v.as_f64()));
            }
            sums.iter().map(|s| *s / size).collect()
        };
        let mean = means(|v| v, x);
        let mut centred = x.to_vec();
        for row in centred.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(&mean)
                .for_each(|(v, m)| *v = T::of(v.as_f64() - m));
        }
        let variance = means(|v| v * v, &centred);
        let third = means(|v| v * v * v, &centred);
        let skewness = third
            .iter()
            .zip(&variance)
            .map(|(t, v)| *t * inverse_cube(floored(*v)))
            .collect();
        let mut products = vec![T::zero(); width * width];
        let view = Matrix::new(&centred, n, width);
        matmul(&mut products, width, view.t(), view, Store::Write);
        let degrees = n.saturating_sub(1).max(1) as f64;
        let covariance = products.iter().map(|v| v.as_f64() / degrees).collect();
        Self {
            centred,
            mean,
            covariance,
            variance,
            third,
            skewness,
        }
    }

    /// The gradient with respect to the rows.
    fn backward(&self, given: &Difference, outer: f64, width: usize) -> Vec<T> {
        let n = self.centred.len() / width;
        let size = n as f64;
        let degrees = n.saturating_sub(1).max(1) as f64;
        let mut dx = vec![T::zero(); self.centred.len()];
        let scale = 2.0 / degrees;
        // The difference of covariances is symmetric: twice the product. Columns of the centred
        // rows sum to zero, so the mean adds nothing here.
        let difference: Vec<T> = given.covariance.iter().map(|v| T::of(v * scale)).collect();
        let rows = Matrix::new(&self.centred, n, width);
        let difference = Matrix::new(&difference, width, width);
        matmul(&mut dx, width, rows, difference, Store::Write);
        // The slope of the skewness of every column: `constant + linear x + square x^2`.
        let slopes: Vec<[f64; 3]> = (0..width)
            .map(|i| {
                let v = self.variance[i];
                let power = given.skewness[i] * inverse_cube(floored(v)) * 3.0 / size;
                let linear = match v >= VARIANCE_FLOOR {
                    true => -power * self.third[i] / v,
                    false => 0.0,
                };
                [given.mean[i] / size - power * v, linear, power]
            })
            .collect();
        let rows = dx.chunks_exact_mut(width);
        for (dx, x) in rows.zip(self.centred.chunks_exact(width)) {
            for ((dx, x), [constant, linear, square]) in dx.iter_mut().zip(x).zip(&slopes) {
                let x = x.as_f64();
                let rest = constant + x * (linear + square * x);
                *dx = T::of((dx.as_f64() + rest) * outer);
            }
        }
        dx
    }
}

/// `v^(-3/2)`.
fn inverse_cube(v: f64) -> f64 {
    (v * v.sqrt()).recip()
}

fn floored(v: f64) -> f64 {
    let floor = VARIANCE_FLOOR;
    if v >= floor { v } else { floor }
}

/// The mean distance over pairs, and its gradient with respect to every sample's moments.
fn compare<T: Real>(moments: &[Moments<T>], width: usize) -> (f64, Vec<Difference>) {
    let m = moments.len();
    let pairs = (m * (m - 1) / 2) as f64;
    let mut value = 0.0;
    let mut gradients: Vec<Difference> = (0..m)
        .map(|_| Difference {
            mean: vec![0.0; width],
            covariance: vec![0.0; width * width],
            skewness: vec![0.0; width],
        })
        .collect();
    for j in 1..m {
        let (before, after) = gradients.split_at_mut(j);
        for (i, gradient) in before.iter_mut().enumerate() {
            let (a, b, to) = (&moments[i], &moments[j], &mut after[0]);
            value += difference(&a.mean, &b.mean, pairs, &mut gradient.mean, &mut to.mean);
            let (g, t) = (&mut gradient.covariance, &mut to.covariance);
            value += difference(&a.covariance, &b.covariance, pairs, g, t);
            let (g, t) = (&mut gradient.skewness, &mut to.skewness);
            value += difference(&a.skewness, &b.skewness, pairs, g, t);
        }
    }
    (value, gradients)
}

/// The mean squared difference over `pairs`; adds its gradients.
fn difference(a: &[f64], b: &[f64], pairs: f64, da: &mut [f64], db: &mut [f64]) -> f64 {
    let scale = (pairs * a.len() as f64).recip();
    let mut value = 0.0;
    for ((a, b), (da, db)) in a.iter().zip(b).zip(da.iter_mut().zip(db)) {
        let e = *a - *b;
        value += e * e;
        *da += 2.0 * scale * e;
        *db -= 2.0 * scale * e;
    }
    value * scale
}
