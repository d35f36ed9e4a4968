//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_mmd::{Estimator, Kernel, Mmd, MmdFamily, Smoothness};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(4, number).normal_tensor(shape).unwrap()
}

fn samples(sizes: &[usize], width: usize) -> Vec<Tensor> {
    let each = sizes.iter().enumerate();
    each.map(|(i, n)| normal(&[*n, width], i as u64)).collect()
}

const TIGHT: (f64, f64) = (1e-11, 3e-5);

/// Both estimators of one kernel.
fn both(kernel: &Kernel, sizes: &[usize], width: usize) -> Result<()> {
    for estimator in [Estimator::Biased, Estimator::Unbiased] {
        let mmd = Mmd::new(kernel.clone(), estimator);
        holds(&samples(sizes, width), TIGHT, |x| {
            Ok(vec![mmd.squared(&x[0], &x[1])?])
        })?;
    }
    Ok(())
}

#[test]
fn sizes_that_are_no_multiples_of_a_tile() -> Result<()> {
    let kernel = Kernel::gaussian_length_scale(2.0)?;
    // Up to 256 points distances come from differences, of more from inner products.
    for (sizes, width) in [([2, 3], 1), ([130, 67], 9), ([5, 131], 70)] {
        both(&kernel, &sizes, width)?;
    }
    let mmd = Mmd::new(kernel, Estimator::Unbiased);
    holds(&samples(&[140, 120], 9), TIGHT, |x| {
        Ok(vec![mmd.squared(&x[0], &x[1])?])
    })
}

#[test]
fn kernels_of_every_form() -> Result<()> {
    let gaussian = Kernel::gaussian_length_scale;
    let kernels = [
        gaussian(0.7)? + gaussian(1.0)? + gaussian(2.0)?.scaled(0.3)?,
        Kernel::gaussian_variance(1.7)? + Kernel::inverse_multiquadric(1.2)?,
        Kernel::laplace(2.5)?,
        Kernel::matern(Smoothness::Half, 1.5)? + Kernel::energy(),
        Kernel::matern(Smoothness::ThreeHalves, 1.5)?,
        Kernel::matern(Smoothness::FiveHalves, 1.5)? + Kernel::rational_quadratic(0.7, 1.1)?,
        Kernel::linear(),
        Kernel::polynomial(3, 0.2, 0.5)?,
    ];
    for kernel in kernels {
        both(&kernel, &[7, 9], 5)?;
    }
    Ok(())
}

#[test]
fn the_models_loss() -> Result<()> {
    // Three modalities.
    let mmd = Mmd::new(Kernel::gaussian_variance(9.0)?, Estimator::Biased);
    for (sizes, width) in [([8, 8, 8], 12), ([130, 3, 3], 2)] {
        holds(&samples(&sizes, width), TIGHT, |x| {
            Ok(vec![mmd.mean_over_pairs(x)?])
        })?;
    }
    Ok(())
}

#[test]
fn several_kernels_and_functionals_at_once() -> Result<()> {
    let lengths = [0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0];
    let kernels = lengths.map(Kernel::gaussian_length_scale).into_iter();
    let mut kernels = kernels.collect::<Result<Vec<_>>>()?;
    kernels.push(Kernel::inverse_multiquadric(1.0)?);
    let family = MmdFamily::new(kernels, Estimator::Unbiased);
    holds(&samples(&[6, 4, 9, 5], 3), TIGHT, |x| {
        Ok(vec![
            family.matrices(x)?,
            family.mean_over_pairs(x)?,
            family.squared(&x[0], &x[2])?,
        ])
    })
}

#[test]
fn roots() -> Result<()> {
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Biased);
    holds(&samples(&[6, 4], 3), TIGHT, |x| {
        Ok(vec![mmd.root(&x[0], &(&x[1] + 1.0)?)?])
    })?;
    if available() {
        let x = normal(&[4, 2], 0);
        assert!(emulated(1, || mmd.root(&x, &x))?.to_scalar::<f64>()? < 1e-7);
    }
    Ok(())
}

#[test]
fn points_far_from_their_mean_keep_small_distances() -> Result<()> {
    // Squares of f32 coordinates would not: distances are sums of squared differences there.
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Biased);
    for sizes in [[6, 5], [64, 130]] {
        holds(&samples(&sizes, 2), (1e-8, 1e-3), |x| {
            let far = Tensor::cat(&[(&x[0] * 1.0)?, (&x[0] + 4096.0)?], 0)?;
            Ok(vec![mmd.squared(&far, &x[1])?])
        })?;
    }
    Ok(())
}

#[test]
fn a_common_shift_costs_no_digits() -> Result<()> {
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Biased);
    for sizes in [[6, 5], [250, 8]] {
        holds(&samples(&sizes, 2), (1e-9, 1e-3), |x| {
            let moved = |x: &Tensor| x + 1000.0;
            Ok(vec![mmd.squared(&moved(&x[0])?, &moved(&x[1])?)?])
        })?;
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() -> Result<()> {
    if !available() {
        return Ok(());
    }
    for kernel in [
        Kernel::gaussian_length_scale(1.0)? + Kernel::gaussian_length_scale(2.0)?,
        Kernel::laplace(2.0)?,
        Kernel::polynomial(2, 0.3, 1.0)?,
    ] {
        let mmd = Mmd::new(kernel, Estimator::Unbiased);
        gradcheck(&samples(&[3, 4], 2), 1e-6, |x| {
            emulated(4, || Ok(vec![mmd.squared(&x[0], &x[1])?]))
        })?;
    }
    Ok(())
}

/// A value that is computed from NaN is NaN, by products and by differences.
#[test]
fn nan_stays() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let kernels = [
        Kernel::gaussian_length_scale(2.0)?,
        Kernel::matern(Smoothness::ThreeHalves, 1.5)?,
    ];
    for (kernel, n) in kernels.iter().flat_map(|k| [(k, 20), (k, 260)]) {
        let mut numbers = normal(&[n, 1], 0).flatten_all()?.to_vec1::<f64>()?;
        numbers[7] = f64::NAN;
        let x = Tensor::from_vec(numbers, (n, 1), &Device::Cpu)?;
        let y = normal(&[9, 1], 1);
        for dtype in [DType::F64, DType::F32] {
            let (x, y) = (x.to_dtype(dtype)?, y.to_dtype(dtype)?);
            let mmd = Mmd::new(kernel.clone(), Estimator::Biased);
            let value = emulated(2, || mmd.squared(&x, &y))?.to_dtype(DType::F64)?;
            assert!(value.to_scalar::<f64>()?.is_nan(), "{n} points, {dtype:?}");
        }
    }
    Ok(())
}
