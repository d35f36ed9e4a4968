//! Dropout that a seed repeats.

use candle_core::Tensor;

use super::device;
use crate::device::Backend;
use crate::op::{Output, record_one};
use crate::random::Stream;
use crate::{Elements, Error, Real, Result, with_real};

/// Dropout (Srivastava and others, 2014): each element is zero with probability `p`, and
/// otherwise divided by `1 - p`. The stream decides which; with `p = 0` the input comes back.
///
/// # Shapes
/// Any; the result has the shape of `x`. `p` lies in [0, 1).
///
/// # Errors
/// When `p` is outside its range.
pub fn dropout(x: &Tensor, p: f64, stream: Stream) -> Result<Tensor> {
    check(p)?;
    if p == 0.0 {
        return Ok(x.clone());
    }
    if let Some(backend) = Backend::of(x)? {
        return device::dropout(&backend, x, p, stream);
    }
    with_real!("x", x, T => fused::<T>(x, p, stream))
}

/// An error unless `p` is a probability that leaves something.
pub(super) fn check(p: f64) -> Result<()> {
    match (0.0..1.0).contains(&p) {
        true => Ok(()),
        false => Err(Error::value("dropout probability", p, "must lie in [0, 1)")),
    }
}

/// The `n` factors that [`dropout`] multiplies by: 0 with probability `p`, else `1 / (1 - p)`.
pub fn dropout_mask<T: Real>(n: usize, p: f64, stream: Stream) -> Vec<T> {
    let mut mask = vec![T::one(); n];
    apply_dropout(&mut mask, p, stream);
    mask
}

/// [`dropout`] of a slice, in place.
pub fn apply_dropout<T: Real>(x: &mut [T], p: f64, stream: Stream) {
    let scale = T::of(1.0 / (1.0 - p));
    stream.choices(1.0 - p).multiply(x, scale);
}

fn fused<T: Real>(x: &Tensor, p: f64, stream: Stream) -> Result<Tensor> {
    // The mask is drawn again in the backward pass, not kept.
    let apply = move |x: &[T]| -> Vec<T> {
        let mut x = x.to_vec();
        apply_dropout(&mut x, p, stream);
        x
    };
    let y = apply(&Elements::<T>::new(x)?);
    record_one("dropout", &[x], Output::new(y, x.dims()), move |b| {
        let gradient = b.gradient(0)?;
        let dx = apply(&Elements::<T>::new(&gradient)?);
        Ok(vec![Some(Tensor::from_vec(
            dx,
            b.inputs[0].dims(),
            gradient.device(),
        )?)])
    })
}
