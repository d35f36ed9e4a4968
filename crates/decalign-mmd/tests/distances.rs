//! MMD and moments: fused equals reference, gradients, known values, invariances, bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck};
use decalign_mmd::{Bandwidth, Estimator, GaussianMmd, moment_matching, reference};
use proptest::prelude::*;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(5, number).normal_tensor(shape).unwrap()
}

fn value(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let largest = (wide(a) - wide(b))
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap();
    largest.to_scalar().unwrap()
}

type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Holds two implementations equal, values and gradients.
fn same(inputs: &[Tensor], fused: Run, plain: Run) {
    agree(
        inputs,
        (1e-12, 1e-4),
        |x| Ok(vec![fused(x)?]),
        |x| Ok(vec![plain(x)?]),
    )
    .unwrap();
}

/// Two, three and four samples of several sizes.
fn cases() -> Vec<Vec<Tensor>> {
    let of = |sizes: &[usize], d: usize| -> Vec<Tensor> {
        sizes
            .iter()
            .enumerate()
            .map(|(i, n)| normal(&[*n, d], i as u64))
            .collect()
    };
    vec![
        of(&[5, 3], 4),
        of(&[32, 32, 32], 16),
        of(&[2, 4, 3, 6], 3),
        of(&[70, 130], 2),
    ]
}

#[test]
fn mmd_equals_its_reference() -> Result<()> {
    for samples in cases() {
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            let mmd = GaussianMmd::new(Bandwidth::variance(1.7)?, estimator);
            same(&samples, &|x| mmd.mean_over_pairs(x), &|x| {
                reference::mean_over_pairs(x, 1.7, estimator)
            });
        }
    }
    Ok(())
}

#[test]
fn moments_equal_their_reference() {
    for samples in cases() {
        same(&samples, &moment_matching, &reference::moment_matching);
    }
    same(
        &[normal(&[1, 3], 0), normal(&[2, 3], 1)],
        &moment_matching,
        &reference::moment_matching,
    );
}

#[test]
fn gradients_hold() -> Result<()> {
    let samples = [normal(&[4, 3], 0), normal(&[3, 3], 1), normal(&[5, 3], 2)];
    for estimator in [Estimator::Biased, Estimator::Unbiased] {
        let mmd = GaussianMmd::new(Bandwidth::variance(1.0)?, estimator);
        gradcheck(&samples, 1e-8, |x| Ok(vec![mmd.mean_over_pairs(x)?]))?;
    }
    gradcheck(&samples, 1e-7, |x| Ok(vec![moment_matching(x)?]))
}

#[test]
fn the_population_value_is_reached() -> Result<()> {
    // N(0, I) against N((.7, 0), 1.5^2 I) in the plane, Gaussian kernel of length 1: 0.0709242.
    let n = 2000;
    let x = normal(&[n, 2], 0);
    let shift = Tensor::new(&[[0.7f64, 0.0]], &Device::Cpu)?;
    let y = (normal(&[n, 2], 1) * 1.5)?.broadcast_add(&shift)?;
    let mmd = GaussianMmd::new(Bandwidth::length_scale(1.0)?, Estimator::Unbiased);
    // Five standard errors, about 2 sqrt(MMD^2 / n) each.
    assert!((value(&mmd.mmd2(&x, &y)?) - 0.070_924_2).abs() < 0.03);
    Ok(())
}

#[test]
fn shifted_f32_data_gives_the_same_distance() -> Result<()> {
    let grid = |i| -> Result<Tensor> {
        Ok(((normal(&[40, 8], i) * 64.0)?.round()? / 64.0)?.to_dtype(DType::F32)?)
    };
    let (x, y) = (grid(0)?, grid(1)?);
    let mmd = GaussianMmd::new(Bandwidth::variance(4.0)?, Estimator::Biased);
    let plain = value(&mmd.mmd2(&x, &y)?);
    let shifted = value(&mmd.mmd2(&(&x + 1024.0)?, &(&y + 1024.0)?)?);
    assert!(
        (plain - shifted).abs() < 1e-5 * plain.abs(),
        "{plain} {shifted}"
    );
    Ok(())
}

#[test]
fn the_median_rule_is_the_median_distance() -> Result<()> {
    let x = Tensor::new(&[[0.0f64], [1.0]], &Device::Cpu)?;
    let y = Tensor::new(&[[4.0f64]], &Device::Cpu)?;
    // Distances 1, 3, 4: the median is 3.
    let median = GaussianMmd::new(Bandwidth::median_distance(), Estimator::Biased);
    let three = GaussianMmd::new(Bandwidth::length_scale(3.0)?, Estimator::Biased);
    assert!(distance(&median.mmd2(&x, &y)?, &three.mmd2(&x, &y)?) < 1e-15);
    Ok(())
}

proptest! {
    #[test]
    fn biased_is_never_negative_and_zero_at_equality(n in 1usize..12, m in 1usize..12, d in 1usize..5, seed in 0u64..60) {
        let mmd = GaussianMmd::new(Bandwidth::variance(1.0).unwrap(), Estimator::Biased);
        let (x, y) = (normal(&[n, d], seed), normal(&[m, d], seed + 500));
        prop_assert!(value(&mmd.mmd2(&x, &y).unwrap()) >= -1e-14);
        prop_assert!(value(&mmd.mmd2(&x, &x).unwrap()).abs() < 1e-14);
        prop_assert!(value(&moment_matching(&[x.clone(), x.clone()]).unwrap()).abs() < 1e-20);
        // Symmetric, and blind to the order of rows.
        let order: Vec<u32> = (0..n as u32).rev().collect();
        let shuffled = x.index_select(&Tensor::from_vec(order, n, &Device::Cpu).unwrap(), 0).unwrap();
        let plain = mmd.mmd2(&x, &y).unwrap();
        prop_assert!(distance(&plain, &mmd.mmd2(&y, &shuffled).unwrap()) < 1e-13);
        let plain = moment_matching(&[x, y.clone()]).unwrap();
        prop_assert!(distance(&plain, &moment_matching(&[y, shuffled]).unwrap()) < 1e-9 * (1.0 + value(&plain)));
    }
}

#[test]
fn threads_do_not_change_results() -> Result<()> {
    let samples = [normal(&[300, 16], 0), normal(&[200, 16], 1)];
    let mmd = GaussianMmd::new(Bandwidth::median_distance(), Estimator::Unbiased);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| value(&mmd.mean_over_pairs(&samples).unwrap()))
    };
    assert_eq!(run(1).to_bits(), run(3).to_bits());
    Ok(())
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let mmd = GaussianMmd::new(Bandwidth::variance(1.0)?, Estimator::Unbiased);
    let x = normal(&[3, 2], 0);
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(mmd.mean_over_pairs(std::slice::from_ref(&x))).contains("at least two"));
    assert!(message(mmd.mmd2(&x, &normal(&[3, 4], 1))).contains("sample 1"));
    assert!(message(mmd.mmd2(&x, &normal(&[1, 2], 1))).contains("n >= 2"));
    let nan = Tensor::new(&[[0.0, 1.0], [f64::INFINITY, 2.0]], &Device::Cpu)?;
    assert!(message(moment_matching(&[x.clone(), nan.clone()])).contains("row 1, column 0"));
    assert!(message(mmd.mmd2(&x, &nan)).contains("sample 1"));
    assert!(Bandwidth::variance(0.0).is_err() && Bandwidth::length_scale(f64::NAN).is_err());
    // Far and huge samples are finite.
    let huge = (normal(&[3, 2], 2) * 1e30)?;
    assert!((value(&mmd.mmd2(&huge, &x)?)).is_finite());
    Ok(())
}
