//! Matching the first three moments.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Real, Result, with_real};

use crate::door::{check, check_finite};
use crate::reference;

/// The variance in a skewness's denominator is not taken below this.
pub const VARIANCE_FLOOR: f64 = 1e-6;

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
/// When shapes or dtypes differ, or an entry is not finite.
///
/// Source: DecAlign (ICLR 2026), homogeneous alignment, as in the public release.
pub fn moment_matching(samples: &[Tensor]) -> Result<Tensor> {
    let width = check(samples, 1)?;
    if !samples[0].device().is_cpu() {
        return reference::moment_matching(samples);
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
        Output::new(vec![value], ()),
        move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?[0];
            let each = b
                .inputs
                .iter()
                .zip(moments.iter().zip(&differences))
                .map(|(x, (m, d))| {
                    Ok(Some(Tensor::from_vec(
                        m.gradient(d, outer, width),
                        x.dims(),
                        x.device(),
                    )?))
                });
            each.collect()
        },
    )
}

/// The moments of one sample.
struct Moments<T> {
    /// The rows without their mean.
    centred: Vec<T>,
    mean: Vec<T>,
    covariance: Vec<T>,
    variance: Vec<T>,
    third: Vec<T>,
    skewness: Vec<T>,
}

/// A gradient with respect to mean, covariance and skewness.
struct Difference<T> {
    mean: Vec<T>,
    covariance: Vec<T>,
    skewness: Vec<T>,
}

impl<T: Real> Moments<T> {
    fn new(x: &[T], width: usize) -> Self {
        let n = x.len() / width;
        let size = T::of(n as f64);
        let column = |f: &dyn Fn(&[T], usize) -> T, rows: &[T]| -> Vec<T> {
            let mut sums = vec![T::zero(); width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut()
                    .enumerate()
                    .for_each(|(i, s)| *s += f(row, i));
            }
            sums.iter().map(|s| *s / size).collect()
        };
        let mean = column(&|row, i| row[i], x);
        let rows = x.chunks_exact(width);
        let centred: Vec<T> = rows
            .flat_map(|row| row.iter().zip(&mean).map(|(v, m)| *v - *m))
            .collect();
        let variance = column(&|row, i| row[i] * row[i], &centred);
        let third = column(&|row, i| row[i] * row[i] * row[i], &centred);
        let skewness = third
            .iter()
            .zip(&variance)
            .map(|(t, v)| *t / floored(*v).powf(T::of(1.5)))
            .collect();
        let mut covariance = vec![T::zero(); width * width];
        let view = Matrix::new(&centred, n, width);
        matmul(&mut covariance, width, view.t(), view, Store::Write);
        let degrees = T::of(n.saturating_sub(1).max(1) as f64);
        covariance.iter_mut().for_each(|v| *v /= degrees);
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
    fn gradient(&self, given: &Difference<T>, outer: T, width: usize) -> Vec<T> {
        let n = self.centred.len() / width;
        let size = T::of(n as f64);
        let degrees = T::of(n.saturating_sub(1).max(1) as f64);
        let mut dx = vec![T::zero(); self.centred.len()];
        // The difference of covariances is symmetric: twice the product. Columns of the centred
        // rows sum to zero, so the mean adds nothing here.
        let rows = Matrix::new(&self.centred, n, width);
        matmul(
            &mut dx,
            width,
            rows,
            Matrix::new(&given.covariance, width, width),
            Store::Write,
        );
        let scale = T::of(2.0) / degrees;
        for (dx, x) in dx
            .chunks_exact_mut(width)
            .zip(self.centred.chunks_exact(width))
        {
            for i in 0..width {
                let v = self.variance[i];
                let power = floored(v).powf(T::of(-1.5));
                let mut skew = T::of(3.0) * (x[i] * x[i] - v) * power;
                if v >= T::of(VARIANCE_FLOOR) {
                    skew -= T::of(3.0) * self.third[i] * power / v * x[i];
                }
                let rest = (given.mean[i] + given.skewness[i] * skew) / size;
                dx[i] = (dx[i] * scale + rest) * outer;
            }
        }
        dx
    }
}

fn floored<T: Real>(v: T) -> T {
    let floor = T::of(VARIANCE_FLOOR);
    if v >= floor { v } else { floor }
}

/// The mean distance over pairs, and its gradient with respect to every sample's moments.
fn compare<T: Real>(moments: &[Moments<T>], width: usize) -> (T, Vec<Difference<T>>) {
    let m = moments.len();
    let pairs = T::of((m * (m - 1) / 2) as f64);
    let mut value = T::zero();
    let mut gradients: Vec<Difference<T>> = (0..m)
        .map(|_| Difference {
            mean: vec![T::zero(); width],
            covariance: vec![T::zero(); width * width],
            skewness: vec![T::zero(); width],
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
fn difference<T: Real>(a: &[T], b: &[T], pairs: T, da: &mut [T], db: &mut [T]) -> T {
    let scale = (pairs * T::of(a.len() as f64)).recip();
    let mut value = T::zero();
    for ((a, b), (da, db)) in a.iter().zip(b).zip(da.iter_mut().zip(db)) {
        let e = *a - *b;
        value += e * e;
        *da += T::of(2.0) * scale * e;
        *db -= T::of(2.0) * scale * e;
    }
    value * scale
}
