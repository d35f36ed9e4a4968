//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_decouple::cosine_squared;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(7, number).normal_tensor(shape).unwrap()
}

#[test]
fn squared_cosines() -> Result<()> {
    for shape in [vec![1, 1], vec![3, 5, 4], vec![2, 700], vec![300, 3]] {
        let inputs = [normal(&shape, 1), normal(&shape, 2)];
        holds(&inputs, (1e-12, 1e-5), |x| {
            Ok(vec![cosine_squared(&x[0], &x[1])?])
        })?;
    }
    // A part that is zero.
    let zero = normal(&[4, 6], 3).zeros_like()?;
    holds(&[zero, normal(&[4, 6], 4)], (1e-12, 1e-5), |x| {
        Ok(vec![cosine_squared(&x[0], &x[1])?])
    })?;
    if available() {
        gradcheck(&[normal(&[3, 7], 5), normal(&[3, 7], 6)], 1e-7, |x| {
            emulated(5, || Ok(vec![cosine_squared(&x[0], &x[1])?]))
        })?;
        let bad = (normal(&[2, 3], 7) / 0.0)?;
        let loss = emulated(1, || cosine_squared(&bad, &normal(&[2, 3], 8)))?;
        assert!(loss.to_scalar::<f64>()?.is_nan());
    }
    Ok(())
}
