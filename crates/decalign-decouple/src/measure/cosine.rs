//! The squared cosine between two parts of the same samples.

use candle_core::Tensor;
use decalign_core::analytic::check_finite;
use decalign_core::device::Backend;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Error, Real, Result, simd, with_real};

use super::device;
use super::traits::Measure;
use crate::reference;
use crate::table::same_kind;
use crate::tensor::NORM_FLOOR;

/// `mean over samples of cos(vec(s), vec(c))^2`, with norms floored at [`NORM_FLOOR`](crate::NORM_FLOOR).
///
/// # Shapes
/// `s` and `c` (B, ...) of one shape, B >= 1; the result is a scalar in [0, 1].
///
/// # Errors
/// When the shapes or dtypes differ, there is no sample, or an entry is not finite. Entries on a device are not checked: the
/// result is NaN then.
///
/// Source: DecAlign (ICLR 2026), decoupling, as in the reference implementation.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::cosine_squared;
/// let s = Tensor::new(&[[1f64, 0.0], [0.0, 2.0]], &Device::Cpu)?;
/// let c = Tensor::new(&[[1f64, 1.0], [3.0, 0.0]], &Device::Cpu)?;
/// // 45 and 90 degrees.
/// assert!((cosine_squared(&s, &c)?.to_scalar::<f64>()? - 0.25).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn cosine_squared(s: &Tensor, c: &Tensor) -> Result<Tensor> {
    if s.dims() != c.dims() || s.rank() < 2 || s.elem_count() == 0 {
        let got = (s.shape(), c.shape());
        return Err(Error::tensor(
            "unique and common parts",
            "one shape (B >= 1, ...)",
            got,
        ));
    }
    same_kind("common part", c, s)?;
    if let Some(backend) = Backend::of(s)? {
        return device::cosine_squared(&backend, s, c);
    }
    with_real!("unique part", s, T => fused::<T>(s, c))
}

/// [`cosine_squared`] as a [`Measure`].
///
/// Parts (n, d) of one shape, n >= 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CosineSquared;

impl Measure for CosineSquared {
    fn name(&self) -> &'static str {
        "cosine_squared"
    }

    fn between(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        cosine_squared(a, b)
    }

    fn reference(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        reference::cosine_squared(a, b)
    }
}

/// The cosine of one sample, its norms after the floor, and whether each norm exceeds the floor.
struct Angle<T> {
    cosine: T,
    norms: [T; 2],
    free: [bool; 2],
}

impl<T: Real> Angle<T> {
    fn new(s: &[T], c: &[T]) -> Self {
        let floor = T::of(NORM_FLOOR);
        let raw = [simd::sum_squares(s).sqrt(), simd::sum_squares(c).sqrt()];
        let norms = raw.map(|n| if n > floor { n } else { floor });
        Self {
            cosine: simd::dot(s, c) / norms[0] / norms[1],
            norms,
            free: raw.map(|n| n > floor),
        }
    }
}

fn fused<T: Real>(s: &Tensor, c: &Tensor) -> Result<Tensor> {
    let (batch, total) = {
        let (a, b) = (Elements::<T>::new(s)?, Elements::<T>::new(c)?);
        let batch = s.dims()[0];
        let size = a.len() / batch;
        check_finite("unique part", &a, size)?;
        check_finite("common part", &b, size)?;
        let rows = a.chunks_exact(size).zip(b.chunks_exact(size));
        let squares = rows.map(|(a, b)| Angle::new(a, b).cosine.powi(2));
        (batch, squares.sum::<T>())
    };
    let loss = total / T::of(batch as f64);
    if !loss.is_finite() {
        let remedy = "must be finite: sums overflow; scale the inputs down";
        return Err(Error::value("cosine_squared", loss, remedy));
    }
    record_one(
        "cosine_squared",
        &[s, c],
        Output::new(vec![loss], ()),
        move |b| backward::<T>(b, batch),
    )
}

/// With cos = s.c / (|s| |c|): `d cos / d s = c / (|s| |c|) - cos s / |s|^2`, the second term only
/// where the norm is free of its floor.
fn backward<T: Real>(b: &Backward, batch: usize) -> Result<InputGradients> {
    let gradient = b.gradient(0)?;
    let outer = Elements::<T>::new(&gradient)?[0] * T::of(2.0 / batch as f64);
    let (s, c) = (
        Elements::<T>::new(&b.inputs[0])?,
        Elements::<T>::new(&b.inputs[1])?,
    );
    let size = s.len() / batch;
    let (mut ds, mut dc) = (Vec::with_capacity(s.len()), Vec::with_capacity(s.len()));
    for (s, c) in s.chunks_exact(size).zip(c.chunks_exact(size)) {
        let Angle {
            cosine,
            norms,
            free,
        } = Angle::new(s, c);
        let outer = outer * cosine;
        let across = outer / norms[0] / norms[1];
        let along = |i: usize| match free[i] {
            true => outer * cosine / norms[i] / norms[i],
            false => T::zero(),
        };
        let (along_s, along_c) = (along(0), along(1));
        ds.extend(s.iter().zip(c).map(|(s, c)| across * *c - along_s * *s));
        dc.extend(s.iter().zip(c).map(|(s, c)| across * *s - along_c * *c));
    }
    let device = gradient.device();
    Ok(vec![
        Some(Tensor::from_vec(ds, b.inputs[0].dims(), device)?),
        Some(Tensor::from_vec(dc, b.inputs[1].dims(), device)?),
    ])
}
