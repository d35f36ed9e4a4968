//! Moments in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_mmd::moment_matching;

/// Samples of these sizes, about means far from 0.
fn samples(sizes: &[usize], width: usize, mean: f64) -> Vec<Tensor> {
    let sample = |(i, n): (usize, &usize)| {
        let x = Stream::new(5, i as u64)
            .normal_tensor(&[*n, width])
            .unwrap();
        (x + mean).unwrap()
    };
    sizes.iter().enumerate().map(sample).collect()
}

#[test]
fn moments() -> Result<()> {
    for (sizes, width, mean) in [
        (&[1, 1][..], 1, 0.0),
        (&[9, 9, 9], 5, 1.0),
        (&[40, 17, 3, 1], 37, 30.0),
        (&[2, 3, 4, 5, 6, 7, 8, 9], 3, 0.0),
        (&[50, 33], 33, -3.0),
    ] {
        holds(&samples(sizes, width, mean), (1e-11, 1e-4), |x| {
            Ok(vec![moment_matching(x)?])
        })?;
    }
    if available() {
        gradcheck(&samples(&[5, 7, 4], 3, 0.5), 1e-6, |x| {
            emulated(5, || Ok(vec![moment_matching(x)?]))
        })?;
    }
    Ok(())
}

#[test]
fn columns_without_spread() -> Result<()> {
    // Their variance is below the floor of a skewness.
    let mut all = samples(&[8, 6], 4, 0.0);
    all[0] = (&all[0] * 1e-5)?;
    holds(&all, (1e-11, 1e-4), |x| Ok(vec![moment_matching(x)?]))
}
