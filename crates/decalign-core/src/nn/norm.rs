//! Layer normalisation.

use candle_core::{D, Tensor};

use super::device;
use crate::device::Backend;
use crate::op::{Backward, InputGradients, Output, record_one};
use crate::simd::{self, Isa, Kernel, ROWS};
use crate::{Elements, Error, Real, Result, with_real};

/// Layer normalisation over the last dimension (Ba, Kiros and Hinton, 2016):
/// `y = weight (x - mean) / sqrt(variance + epsilon) + bias`, the variance dividing by n.
///
/// # Shapes
/// `x` (..., n), `weight` (n), `bias` (n); the result has the shape of `x`.
///
/// # Errors
/// When the shapes or dtypes do not fit, or `epsilon` is not positive.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let n = if x.rank() == 0 { 0 } else { x.dim(D::Minus1)? };
    if n == 0 || weight.dims() != [n] || bias.dims() != [n] {
        let got = (x.shape(), weight.shape(), bias.shape());
        return Err(Error::tensor(
            "layer norm",
            "input (..., n), weight (n), bias (n)",
            got,
        ));
    }
    if epsilon.is_nan() || epsilon <= 0.0 {
        return Err(Error::value(
            "layer norm epsilon",
            epsilon,
            "must be positive",
        ));
    }
    if let Some(backend) = Backend::of(x)? {
        return device::layer_norm(&backend, [x, weight, bias], epsilon);
    }
    with_real!("x", x, T => fused::<T>(x, weight, bias, epsilon))
}

/// Mean and reciprocal deviation of each row.
type Statistics<T> = Vec<(T, T)>;

fn fused<T: Real>(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (y, statistics) = simd::dispatch(Forward {
        x: &Elements::<T>::new(x)?,
        weight: &Elements::<T>::new(weight)?,
        bias: &Elements::<T>::new(bias)?,
        epsilon: T::of(epsilon),
    });
    record_one(
        "layer_norm",
        &[x, weight, bias],
        Output::new(y, x.dims()),
        move |b| backward::<T>(b, &statistics),
    )
}

struct Forward<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
    epsilon: T,
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = (Vec<T>, Statistics<T>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let n = self.weight.len();
        let (size, mut y) = (T::of(n as f64), self.x.to_vec());
        let mut statistics = Vec::with_capacity(self.x.len() / n);
        for y in y.chunks_mut(ROWS * n) {
            // Centred first: the difference of squares would cancel.
            let means = simd::row_sums(isa, y, n).map(|sum| sum / size);
            for (y, mean) in y.chunks_exact_mut(n).zip(means) {
                y.iter_mut().for_each(|y| *y -= mean);
            }
            let squares = simd::row_dots(isa, y, y, n);
            let scales = squares.map(|sum| (sum / size + self.epsilon).sqrt().recip());
            for ((y, mean), scale) in y.chunks_exact_mut(n).zip(means).zip(scales) {
                for ((y, w), b) in y.iter_mut().zip(self.weight).zip(self.bias) {
                    *y = isa.mul_add(*y * scale, *w, *b);
                }
                statistics.push((mean, scale));
            }
        }
        (y, statistics)
    }
}

fn backward<T: Real>(b: &Backward, statistics: &Statistics<T>) -> Result<InputGradients> {
    let gradient = b.gradient(0)?;
    let (dx, dw, db) = simd::dispatch(Gradient {
        x: &Elements::<T>::new(&b.inputs[0])?,
        weight: &Elements::<T>::new(&b.inputs[1])?,
        gradient: &Elements::<T>::new(&gradient)?,
        statistics,
    });
    let n = dw.len();
    let device = b.inputs[0].device();
    Ok(vec![
        Some(Tensor::from_vec(dx, b.inputs[0].dims(), device)?),
        Some(Tensor::from_vec(dw, n, device)?),
        Some(Tensor::from_vec(db, n, device)?),
    ])
}

struct Gradient<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    gradient: &'a [T],
    statistics: &'a Statistics<T>,
}

impl<T: Real> Kernel for Gradient<'_, T> {
    type Output = (Vec<T>, Vec<T>, Vec<T>);

    /// With h = (x - mean) s and u = g weight: `dx = s (u - mean(u) - h mean(u h))`.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let n = self.weight.len();
        let (size, mut dx) = (T::of(n as f64), vec![T::zero(); self.x.len()]);
        let (mut dw, mut db) = (vec![T::zero(); n], vec![T::zero(); n]);
        let mut normal = vec![T::zero(); ROWS * n];
        let rows = self.x.chunks(ROWS * n).zip(self.gradient.chunks(ROWS * n));
        let rows = rows.zip(dx.chunks_mut(ROWS * n));
        for (((x, g), dx), statistics) in rows.zip(self.statistics.chunks(ROWS)) {
            for (r, (mean, scale)) in statistics.iter().enumerate() {
                let (x, g) = (&x[r * n..][..n], &g[r * n..][..n]);
                let (normal, dx) = (&mut normal[r * n..][..n], &mut dx[r * n..][..n]);
                for i in 0..n {
                    normal[i] = (x[i] - *mean) * *scale;
                    dx[i] = g[i] * self.weight[i];
                    dw[i] = isa.mul_add(g[i], normal[i], dw[i]);
                    db[i] += g[i];
                }
            }
            let average = simd::row_sums(isa, dx, n).map(|sum| sum / size);
            let along = simd::row_dots(isa, dx, &normal, n).map(|sum| sum / size);
            for (r, (_, scale)) in statistics.iter().enumerate() {
                let (normal, dx) = (&normal[r * n..][..n], &mut dx[r * n..][..n]);
                for i in 0..n {
                    dx[i] = *scale * isa.mul_add(-along[r], normal[i], dx[i] - average[r]);
                }
            }
        }
        (dx, dw, db)
    }
}
