//! The independence test: exact values, level, power, stopping, threads, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{kernels, normal};
use decalign_core::{Elements, Result};
use decalign_mmd::{Estimator, HsicTest, Kernel, Resampling, Stopping, reference};

const BOTH: [Estimator; 2] = [Estimator::Biased, Estimator::Unbiased];

// Of golden/make.py, biased and unbiased.
const HSIC: (f64, f64) = (0.036_179_295_541_540_95, 0.000_211_425_632_298_379_97);
const DISTANCE: (f64, f64) = (0.056_734_971_524_800_52, -0.017_033_925_243_869_368);

fn few() -> Resampling {
    Resampling::seeded(1).draws(99)
}

fn gaussian(l: f64) -> Kernel {
    Kernel::gaussian_length_scale(l).unwrap()
}

#[test]
fn values_are_those_of_numpy() -> Result<()> {
    let waves = |n: usize, d: usize, (a, b, c): (f64, f64, f64)| {
        let at = |k: usize| (a * (k / d) as f64 + b * (k % d) as f64 + c).sin();
        Tensor::from_vec((0..n * d).map(at).collect(), (n, d), &Device::Cpu)
    };
    let x = waves(9, 2, (1.7, 2.3, 0.5))?;
    let y = (x.narrow(1, 0, 1)?.sqr()? + (waves(9, 1, (0.9, 0.0, 1.0))? * 0.3)?)?;
    for (estimator, hsic, distance) in [
        (Estimator::Biased, HSIC.0, DISTANCE.0),
        (Estimator::Unbiased, HSIC.1, DISTANCE.1),
    ] {
        let test = HsicTest::new(gaussian(0.8), Kernel::laplace(0.5)?, estimator, few());
        assert!((test.value(&x, &y)? - hsic).abs() < 1e-14);
        let distances = HsicTest::distance_covariance(estimator, few());
        assert!((distances.value(&x, &y)? - distance).abs() < 1e-14);
        assert_eq!(distances.test(&x, &y)?.statistic, distances.value(&x, &y)?);
    }
    Ok(())
}

/// HSIC of kernel matrices, by double centring.
fn naive(k: &Tensor, l: &Tensor, estimator: Estimator) -> Result<f64> {
    let n = k.dims()[0];
    let (k, l) = (
        Elements::<f64>::new(k)?.to_vec(),
        Elements::<f64>::new(l)?.to_vec(),
    );
    let centred = |k: &[f64]| {
        let biased = estimator == Estimator::Biased;
        let at = |i: usize, j: usize| if i == j && !biased { 0.0 } else { k[i * n + j] };
        let rows: Vec<f64> = (0..n).map(|i| (0..n).map(|j| at(i, j)).sum()).collect();
        let total: f64 = rows.iter().sum();
        let m = n as f64;
        let (a, b) = match biased {
            true => (m, m * m),
            false => (m - 2.0, (m - 1.0) * (m - 2.0)),
        };
        let all = (0..n * n).map(|p| {
            let (i, j) = (p / n, p % n);
            match i == j && !biased {
                true => 0.0,
                false => at(i, j) - rows[i] / a - rows[j] / a + total / b,
            }
        });
        all.collect::<Vec<f64>>()
    };
    let sum: f64 = centred(&k)
        .iter()
        .zip(centred(&l))
        .map(|(a, b)| a * b)
        .sum();
    let n = n as f64;
    Ok(match estimator {
        Estimator::Biased => sum / (n * n),
        _ => sum / (n * (n - 3.0)),
    })
}

#[test]
fn every_kernel_equals_the_definition() -> Result<()> {
    // One block, and several.
    for n in [6, 300] {
        let x = normal(&[n, 3], 1);
        let y = (normal(&[n, 2], 2) + x.narrow(1, 0, 2)?)?;
        for (i, kernel) in kernels().into_iter().enumerate() {
            if n > 100 && i % 4 != 0 {
                continue;
            }
            for estimator in BOTH {
                let other = Kernel::laplace(1.5)?;
                let k = reference::kernel_matrix(&kernel, &x, &x)?;
                let l = reference::kernel_matrix(&other, &y, &y)?;
                let want = naive(&k, &l, estimator)?;
                let test = HsicTest::new(kernel.clone(), other.clone(), estimator, few());
                let got = test.value(&x, &y)?;
                assert!(
                    (got - want).abs() < 1e-11 * want.abs().max(1.0),
                    "{i}: {got} {want}"
                );
                // And the other way round.
                let test = HsicTest::new(other, kernel.clone(), estimator, few());
                let got = test.value(&y, &x)?;
                assert!(
                    (got - want).abs() < 1e-11 * want.abs().max(1.0),
                    "{i}: {got} {want}"
                );
                let single = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
                let rough = test.value(&single(&y), &single(&x))?;
                assert!(
                    (rough - want).abs() < 3e-5 * want.abs().max(1.0),
                    "{i}: {rough} {want}"
                );
            }
        }
    }
    Ok(())
}

/// All orders of the numbers below n.
fn orders(n: u32) -> Vec<Vec<u32>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let with = |order: Vec<u32>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, n - 1);
            order
        })
    };
    orders(n - 1).into_iter().flat_map(with).collect()
}

#[test]
fn orders_are_as_likely_as_each_other() -> Result<()> {
    let x = normal(&[5, 2], 1);
    let y = (normal(&[5, 2], 2) + (&x * 0.7)?)?;
    for estimator in BOTH {
        let settings = Resampling::seeded(4).draws(4999);
        let test = HsicTest::new(gaussian(1.0), gaussian(1.0), estimator, settings);
        let found = test.test(&x, &y)?;
        let mut reached = 0;
        for order in orders(5) {
            let order = Tensor::from_vec(order, 5, &Device::Cpu)?;
            let value = test.value(&x, &y.index_select(&order, 0)?)?;
            reached += usize::from(value >= found.statistic - 1e-12);
        }
        let exact = reached as f64 / 120.0;
        let error = (exact * (1.0 - exact) / 5000.0).sqrt();
        assert!(
            (found.p_value - exact).abs() < 4.0 * error + 2e-4,
            "{exact} {found:?}"
        );
    }
    Ok(())
}

#[test]
fn the_level_is_kept_and_p_values_uniform() -> Result<()> {
    for estimator in BOTH {
        let mut p = Vec::new();
        for i in 0..400 {
            let (x, y) = (normal(&[12, 2], 2 * i), normal(&[12, 1], 2 * i + 1));
            let settings = Resampling::seeded(i).draws(99);
            let test = HsicTest::new(gaussian(1.0), gaussian(1.0), estimator, settings);
            p.push(test.test(&x, &y)?.p_value);
        }
        for level in [0.05, 0.1, 0.2, 0.5, 0.8] {
            let hits = p.iter().filter(|p| **p <= level + 1e-12).count() as f64;
            let error = 4.0 * (400.0 * level * (1.0 - level)).sqrt();
            assert!((hits - 400.0 * level).abs() <= error, "{level}: {hits}");
        }
    }
    Ok(())
}

#[test]
fn dependence_is_found() -> Result<()> {
    let x = normal(&[80, 2], 1);
    let noise = (normal(&[80, 1], 2) * 0.3)?;
    let first = x.narrow(1, 0, 1)?;
    let settings = Resampling::seeded(1).draws(299);
    // In the mean, in the square, in the spread.
    let linear = (&first + &noise)?;
    let squared = (first.sqr()? + &noise)?;
    let spread = (first.abs()? * &noise)?;
    for (name, y) in [("linear", linear), ("squared", squared), ("spread", spread)] {
        for estimator in BOTH {
            let test = HsicTest::new(gaussian(1.0), gaussian(0.5), estimator, settings);
            assert!(test.test(&x, &y)?.rejected, "{name}");
        }
        let test = HsicTest::distance_covariance(Estimator::Unbiased, settings);
        assert!(name == "spread" || test.test(&x, &y)?.rejected, "{name}");
    }
    Ok(())
}

#[test]
fn stopping_and_threads_do_not_change_decisions() -> Result<()> {
    let run = |threads| -> Result<_> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut all = Vec::new();
            for i in 0..8 {
                let x = normal(&[210, 2], i).to_dtype(DType::F32)?;
                let y =
                    (normal(&[210, 2], 50 + i).to_dtype(DType::F32)? + (&x * (0.05 * i as f64))?)?;
                let test = HsicTest::distance_covariance(Estimator::Unbiased, few());
                let (full, some) = (
                    test.test(&x, &y)?,
                    test.stopping(Stopping::WhenCertain).test(&x, &y)?,
                );
                assert_eq!(full.rejected, some.rejected);
                assert!(full.rejected || some.draws < 99);
                all.push((full, some));
            }
            Ok(all)
        })
    };
    assert_eq!(run(1)?, run(3)?);
    Ok(())
}

#[test]
fn degenerate_and_bad_input() -> Result<()> {
    let x = normal(&[30, 2], 1);
    for dtype in [DType::F32, DType::F64] {
        let x = x.to_dtype(dtype)?;
        let same = (Tensor::ones((30, 1), dtype, &Device::Cpu)? * 0.3)?;
        for estimator in BOTH {
            let test = HsicTest::new(
                gaussian(0.7),
                Kernel::polynomial(2, 0.7, 0.3)?,
                estimator,
                few(),
            );
            let found = test.test(&x, &same)?;
            assert!(
                found.p_value == 1.0 && found.statistic.abs() < 1e-6,
                "{found:?}"
            );
        }
    }
    let test = HsicTest::new(gaussian(1.0), gaussian(1.0), Estimator::Unbiased, few());
    let says = |x: &Tensor, y: &Tensor, words: &str| {
        let text = test.test(x, y).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    says(&x, &normal(&[29, 2], 1), "rows of y");
    says(&normal(&[3, 2], 1), &normal(&[3, 2], 1), "n >= 4");
    says(&x, &x.to_dtype(DType::F32)?, "y");
    says(&x, &normal(&[30], 1), "y");
    let mut bad: Vec<f64> = vec![0.0; 30];
    bad[3] = f64::INFINITY;
    says(&x, &Tensor::from_vec(bad, (30, 1), &Device::Cpu)?, "row 3");
    let far = Tensor::from_vec(
        (0..30).map(|i| i as f32 * 1e29).collect::<Vec<_>>(),
        (30, 1),
        &Device::Cpu,
    )?;
    let energy = HsicTest::distance_covariance(Estimator::Biased, few());
    assert!(energy.test(&far, &far).is_err());
    let found =
        HsicTest::new(gaussian(1.0), gaussian(1.0), Estimator::Biased, few()).test(&far, &far)?;
    assert!(found.p_value.is_finite());
    Ok(())
}
