//! Softmax.

use candle_core::{D, Tensor};

use super::device;
use crate::device::Backend;
use crate::op::{Output, record_one};
use crate::simd::{self, Isa, Kernel};
use crate::{Elements, Error, Real, Result, with_real};

/// `y_i = exp(x_i) / sum_j exp(x_j)` over the last dimension.
///
/// The largest element is subtracted first, so nothing overflows.
///
/// # Shapes
/// `x` (..., n) with n >= 1; the result has the same shape.
///
/// # Errors
/// When `x` has no element along its last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let n = if x.rank() == 0 { 0 } else { x.dim(D::Minus1)? };
    if n == 0 {
        return Err(Error::tensor(
            "softmax input",
            "shape (..., n) with n >= 1",
            x.shape(),
        ));
    }
    if let Some(backend) = Backend::of(x)? {
        return device::softmax(&backend, x, n);
    }
    with_real!("x", x, T => fused::<T>(x, n))
}

fn fused<T: Real>(x: &Tensor, n: usize) -> Result<Tensor> {
    let mut y = Elements::<T>::new(x)?.to_vec();
    for row in y.chunks_exact_mut(n) {
        simd::dispatch(Softmax(row));
    }
    record_one("softmax", &[x], Output::new(y, x.dims()), move |b| {
        let gradient = b.gradient(0)?;
        let (g, y) = (
            Elements::<T>::new(&gradient)?,
            Elements::<T>::new(&b.outputs[0])?,
        );
        let mut dx = Vec::with_capacity(y.len());
        for (g, y) in g.chunks_exact(n).zip(y.chunks_exact(n)) {
            let mean = simd::dot(g, y);
            dx.extend(g.iter().zip(y).map(|(g, y)| *y * (*g - mean)));
        }
        Ok(vec![Some(Tensor::from_vec(
            dx,
            b.inputs[0].dims(),
            b.inputs[0].device(),
        )?)])
    })
}

struct Softmax<'a, T>(&'a mut [T]);

impl<T: Real> Kernel for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let largest = simd::max(self.0);
        for x in &mut *self.0 {
            *x = simd::exp_value(isa, *x - largest);
        }
        let scale = simd::sum(self.0).recip();
        for x in &mut *self.0 {
            *x *= scale;
        }
    }
}
