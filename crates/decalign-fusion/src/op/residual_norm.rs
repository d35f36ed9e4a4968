//! Dropout, residual connection and layer norm in one operation.

use candle_core::{D, Tensor};
use decalign_core::device::Backend;
use decalign_core::nn::{self, Mode};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::random::Stream;
use decalign_core::simd::{self, Isa, Kernel, ROWS};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::device::residual_norm as device;

/// `layer_norm(residual + dropout(x))` with `weight` and `bias`; `epsilon` is added to the variance (1e-5 in PyTorch, 1e-12 in BERT).
///
/// # Shapes
/// `x` and `residual` (..., d), `weight` and `bias` (d).
///
/// # Errors
/// When the shapes or dtypes do not fit or `p` is outside [0, 1).
pub fn residual_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    let d = if x.rank() == 0 { 0 } else { x.dim(D::Minus1)? };
    if d == 0 || x.dims() != residual.dims() || weight.dims() != [d] || bias.dims() != [d] {
        let got = (x.shape(), residual.shape(), weight.shape(), bias.shape());
        let expected = "equal inputs (..., d), weight (d), bias (d)";
        return Err(Error::tensor("residual layer norm", expected, got));
    }
    if !(0.0..1.0).contains(&p) {
        return Err(Error::value("residual dropout", p, "must lie in [0, 1)"));
    }
    if epsilon.is_nan() || epsilon <= 0.0 {
        return Err(Error::value(
            "layer norm epsilon",
            epsilon,
            "must be positive",
        ));
    }
    let drop = mode.stream(p).map(|stream| (p, stream));
    if let Some(backend) = Backend::of(x)? {
        if device::supports(d, x.dtype()) {
            return device::residual_norm(&backend, [x, residual, weight, bias], epsilon, drop);
        }
        let sum = (residual + mode.dropout(x, p)?)?;
        return nn::layer_norm(&sum, weight, bias, epsilon);
    }
    with_real!("x", x, T => fused::<T>([x, residual, weight, bias], epsilon, drop))
}

fn fused<T: Real>(
    inputs: [&Tensor; 4],
    epsilon: f64,
    drop: Option<(f64, Stream)>,
) -> Result<Tensor> {
    let [x, residual, weight, bias] = inputs;
    let (y, normal, scales) = {
        let mut sum = Elements::<T>::new(x)?.to_vec();
        if let Some((p, stream)) = drop {
            nn::apply_dropout(&mut sum, p, stream);
        }
        let residual = Elements::<T>::new(residual)?;
        sum.iter_mut()
            .zip(residual.iter())
            .for_each(|(s, r)| *s += *r);
        simd::dispatch(Forward {
            normal: sum,
            weight: &Elements::<T>::new(weight)?,
            bias: &Elements::<T>::new(bias)?,
            epsilon: T::of(epsilon),
        })
    };
    record_one(
        "residual_norm",
        &inputs,
        Output::new(y, x.dims()),
        move |b| backward::<T>(b, &normal, &scales, drop),
    )
}

struct Forward<'a, T> {
    /// The sums, normalised in place.
    normal: Vec<T>,
    weight: &'a [T],
    bias: &'a [T],
    epsilon: T,
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = (Vec<T>, Vec<T>, Vec<T>);

    /// The result, the normalised rows and their reciprocal deviations. Rows are processed [`ROWS`] at a time, so that their sums hide
    /// each other's latency.
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Output {
        let d = self.weight.len();
        let size = T::of(d as f64);
        let mut y = vec![T::zero(); self.normal.len()];
        let mut scales = Vec::with_capacity(y.len() / d);
        let blocks = self.normal.chunks_mut(ROWS * d);
        for (rows, y) in blocks.zip(y.chunks_mut(ROWS * d)) {
            let means = simd::row_sums(isa, rows, d).map(|sum| sum / size);
            for (row, mean) in rows.chunks_exact_mut(d).zip(means) {
                row.iter_mut().for_each(|v| *v -= mean);
            }
            let squares = simd::row_dots(isa, rows, rows, d);
            let deviations = squares.map(|sum| (sum / size + self.epsilon).sqrt().recip());
            let rows = rows.chunks_exact_mut(d).zip(y.chunks_exact_mut(d));
            for ((row, y), scale) in rows.zip(deviations) {
                for i in 0..d {
                    row[i] *= scale;
                    y[i] = isa.mul_add(row[i], self.weight[i], self.bias[i]);
                }
                scales.push(scale);
            }
        }
        (y, self.normal, scales)
    }
}

fn backward<T: Real>(
    b: &Backward,
    normal: &[T],
    scales: &[T],
    drop: Option<(f64, Stream)>,
) -> Result<InputGradients> {
    let (gradient, device) = (b.gradient(0)?, b.inputs[0].device());
    let (ds, dw, db) = simd::dispatch(Gradient {
        normal,
        scales,
        weight: &Elements::<T>::new(&b.inputs[2])?,
        gradient: &Elements::<T>::new(&gradient)?,
    });
    let dims = b.inputs[0].dims();
    let dx = match drop {
        Some((p, stream)) => {
            let mut dx = ds.clone();
            nn::apply_dropout(&mut dx, p, stream);
            Some(Tensor::from_vec(dx, dims, device)?)
        }
        None => None,
    };
    let ds = Tensor::from_vec(ds, dims, device)?;
    let d = dw.len();
    Ok(vec![
        Some(dx.unwrap_or_else(|| ds.clone())),
        Some(ds),
        Some(Tensor::from_vec(dw, d, device)?),
        Some(Tensor::from_vec(db, d, device)?),
    ])
}

struct Gradient<'a, T> {
    normal: &'a [T],
    scales: &'a [T],
    weight: &'a [T],
    gradient: &'a [T],
}

impl<T: Real> Kernel for Gradient<'_, T> {
    type Output = (Vec<T>, Vec<T>, Vec<T>);

    /// With n the normalised row, s its scale, u = g weight: `s (u - mean(u) - n mean(u n))`.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let d = self.weight.len();
        let size = T::of(d as f64);
        let mut ds = vec![T::zero(); self.normal.len()];
        let (mut dw, mut db) = (vec![T::zero(); d], vec![T::zero(); d]);
        let blocks = self.normal.chunks(ROWS * d);
        let blocks = blocks.zip(self.gradient.chunks(ROWS * d));
        let blocks = blocks.zip(ds.chunks_mut(ROWS * d));
        for (((n, g), ds), scales) in blocks.zip(self.scales.chunks(ROWS)) {
            for r in 0..scales.len() {
                let (n, g) = (&n[r * d..][..d], &g[r * d..][..d]);
                let ds = &mut ds[r * d..][..d];
                for i in 0..d {
                    ds[i] = g[i] * self.weight[i];
                    dw[i] = isa.mul_add(g[i], n[i], dw[i]);
                    db[i] += g[i];
                }
            }
            let average = simd::row_sums(isa, ds, d).map(|sum| sum / size);
            let along = simd::row_dots(isa, ds, n, d).map(|sum| sum / size);
            for (r, scale) in scales.iter().enumerate() {
                let (n, ds) = (&n[r * d..][..d], &mut ds[r * d..][..d]);
                for i in 0..d {
                    ds[i] = *scale * isa.mul_add(-along[r], n[i], ds[i] - average[r]);
                }
            }
        }
        (ds, dw, db)
    }
}
