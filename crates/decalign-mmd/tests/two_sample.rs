//! Two-sample tests: exact values, level, power, one pass, stopping, threads, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::normal;
use decalign_core::Result;
use decalign_mmd::{
    Estimator, Kernel, MmdAgg, MmdFuse, Outcome, PermutationTest, Power, Resampling, Stopping,
    WildBootstrap, reference,
};

const BOTH: [Estimator; 2] = [Estimator::Biased, Estimator::Unbiased];

// Of golden/make.py.
const BIASED: f64 = 0.310_663_061_744_670_4;
const UNBIASED: f64 = 0.127_195_808_147_768_2;
const ENERGY: f64 = 0.583_637_043_297_49;
const PAIRED: f64 = 0.059_170_023_123_115_77;
const FUSED: (f64, f64) = (0.085_822_819_783_660_37, 0.093_657_762_094_037_66);

/// The samples of golden/make.py.
fn waves(n: usize, d: usize, (a, b, c): (f64, f64, f64)) -> Tensor {
    let at = |k: usize| (a * (k / d) as f64 + b * (k % d) as f64 + c).sin();
    Tensor::from_vec((0..n * d).map(at).collect(), (n, d), &Device::Cpu).unwrap()
}

fn golden() -> Result<(Tensor, Tensor)> {
    let y = ((waves(7, 2, (1.1, 0.7, 0.2)) * 1.3)? + 0.4)?;
    Ok((waves(9, 2, (1.7, 2.3, 0.5)), y))
}

fn close(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-13, "{got} {want}");
}

fn gaussian(l: f64) -> Kernel {
    Kernel::gaussian_length_scale(l).unwrap()
}

fn permutations(estimator: Estimator, resampling: Resampling) -> PermutationTest {
    PermutationTest::new(gaussian(1.0), estimator, resampling)
}

#[test]
fn statistics_are_those_of_numpy() -> Result<()> {
    let (x, y) = golden()?;
    let few = Resampling::seeded(0).draws(3);
    let of = |kernel, estimator| PermutationTest::new(kernel, estimator, few).test(&x, &y);
    close(of(gaussian(0.8), Estimator::Biased)?.statistic, BIASED);
    close(of(gaussian(0.8), Estimator::Unbiased)?.statistic, UNBIASED);
    close(of(Kernel::energy(), Estimator::Biased)?.statistic, ENERGY);
    let paired = WildBootstrap::new(gaussian(0.8), Estimator::Unbiased, few);
    close(paired.test(&x.narrow(0, 0, 7)?, &y)?.statistic, PAIRED);
    let kernels = vec![gaussian(0.8), gaussian(2.0), Kernel::laplace(1.5)?];
    let fused = MmdFuse::new(kernels, few);
    close(fused.test(&x, &y)?.statistic, FUSED.0);
    close(
        fused.clone().sharpness(2.0).test(&x, &y)?.statistic,
        FUSED.1,
    );
    // It does not matter which sample is the first.
    close(fused.test(&y, &x)?.statistic, FUSED.0);
    Ok(())
}

/// MMD^2 of every way to put n of the points in the first sample.
fn enumerate(kernel: &Kernel, estimator: Estimator, pooled: &Tensor, n: usize) -> Vec<f64> {
    let total = pooled.dims()[0];
    let each = (0u32..1 << total).filter(|set| set.count_ones() as usize == n);
    let each = each.map(|set| {
        let side = |first: u32| {
            let of: Vec<u32> = (0..total as u32)
                .filter(|i| (set >> i) & 1 == first)
                .collect();
            let count = of.len();
            let of = Tensor::from_vec(of, count, &Device::Cpu).unwrap();
            pooled.index_select(&of, 0).unwrap()
        };
        let value = reference::squared(kernel, estimator, &side(1), &side(0)).unwrap();
        value.to_scalar::<f64>().unwrap()
    });
    each.collect()
}

#[test]
fn exact_tests_go_through_all_relabellings() -> Result<()> {
    for (n, m) in [(4, 4), (2, 5), (5, 3)] {
        let (x, y) = (normal(&[n, 2], 1), (normal(&[m, 2], 2) + 0.7)?);
        let pooled = Tensor::cat(&[&x, &y], 0)?;
        for estimator in BOTH {
            let all = enumerate(&gaussian(1.0), estimator, &pooled, n);
            let test = permutations(estimator, Resampling::seeded(3).draws(4999));
            let exact = test.exact(&x, &y)?;
            let reached = all
                .iter()
                .filter(|v| **v >= exact.statistic - 1e-12)
                .count();
            assert_eq!(exact.draws, all.len());
            close(exact.p_value, reached as f64 / all.len() as f64);
            // Random relabellings are some of them, and each is as likely.
            let null = test.null(&x, &y)?;
            let known = |v: &f64| all.iter().any(|w| (v - w).abs() < 1e-12);
            assert!(null.iter().all(known));
            let random = test.test(&x, &y)?.p_value;
            let error = (exact.p_value * (1.0 - exact.p_value) / 5000.0).sqrt();
            assert!(
                (random - exact.p_value).abs() < 4.0 * error + 2e-4,
                "{n} {m}"
            );
        }
    }
    Ok(())
}

#[test]
fn p_values_count_what_was_drawn() -> Result<()> {
    let (x, y) = (normal(&[30, 2], 1), (normal(&[20, 2], 2) + 0.3)?);
    let test = permutations(Estimator::Unbiased, Resampling::seeded(3).draws(199));
    let (found, mut null) = (test.test(&x, &y)?, test.null(&x, &y)?);
    let reached = null.iter().filter(|v| **v >= found.statistic).count();
    assert_eq!(found.p_value, (1 + reached) as f64 / 200.0);
    null.push(found.statistic);
    null.sort_by(f64::total_cmp);
    assert_eq!(found.null_quantile, null[189]);
    assert_eq!(found.rejected, found.statistic > found.null_quantile);
    Ok(())
}

type Tester<'a> = &'a dyn Fn(&Tensor, &Tensor, u64) -> f64;

/// The p-values of `count` pairs of samples from one distribution.
fn under_null(count: u64, (n, m): (usize, usize), test: Tester) -> Vec<f64> {
    let each = (0..count).map(|i| {
        let (x, y) = (normal(&[n, 2], 2 * i), normal(&[m, 2], 2 * i + 1));
        test(&x, &y, i)
    });
    each.collect()
}

/// Holds that p-values are at most `at` as often as they should: within four standard errors; if
/// `exactly`, not more seldom either.
fn keeps_level(name: &str, p: &[f64], exactly: bool) {
    for level in [0.05, 0.1, 0.2, 0.5, 0.8] {
        let count = p.len() as f64;
        let hits = p.iter().filter(|p| **p <= level + 1e-12).count() as f64;
        let error = 4.0 * (count * level * (1.0 - level)).sqrt();
        assert!(hits <= count * level + error, "{name} at {level}: {hits}");
        let enough = !exactly || hits >= count * level - error;
        assert!(enough, "{name} at {level}: {hits}");
    }
}

#[test]
fn levels_are_kept_and_p_values_uniform() {
    let few = |seed| Resampling::seeded(seed).draws(99);
    for (name, sizes) in [("12, 8", (12, 8)), ("10, 10", (10, 10))] {
        for estimator in BOTH {
            let p = under_null(400, sizes, &|x, y, seed| {
                permutations(estimator, few(seed))
                    .test(x, y)
                    .unwrap()
                    .p_value
            });
            keeps_level(&format!("permutations {name}"), &p, true);
        }
        let p = under_null(400, sizes, &|x, y, seed| {
            let test = MmdFuse::new(vec![gaussian(0.5), gaussian(2.0)], few(seed));
            test.test(x, y).unwrap().p_value
        });
        keeps_level(&format!("fused {name}"), &p, true);
        let p = under_null(400, sizes, &|x, y, seed| {
            let kernels = vec![gaussian(0.5), gaussian(2.0), Kernel::energy()];
            MmdAgg::new(kernels, few(seed)).test(x, y).unwrap().p_value
        });
        // Weights and ranks leave steps.
        keeps_level(&format!("aggregated {name}"), &p, false);
    }
    for estimator in BOTH {
        let p = under_null(400, (10, 10), &|x, y, seed| {
            let test = WildBootstrap::new(gaussian(1.0), estimator, few(seed));
            test.test(x, y).unwrap().p_value
        });
        keeps_level("wild", &p, true);
    }
}

#[test]
fn stopped_tests_keep_their_level() {
    for stopping in [Stopping::After(5), Stopping::WhenCertain] {
        let p = under_null(400, (9, 9), &|x, y, seed| {
            let test = permutations(Estimator::Biased, Resampling::seeded(seed).draws(199));
            test.stopping(stopping).test(x, y).unwrap().p_value
        });
        keeps_level("stopped", &p, false);
    }
}

/// A series that remembers.
fn series(n: usize, keep: f64, number: u64) -> Tensor {
    let mut x: Vec<f64> = normal(&[n], number).to_vec1().unwrap();
    for t in 1..n {
        x[t] = keep * x[t - 1] + (1.0 - keep * keep).sqrt() * x[t];
    }
    Tensor::from_vec(x, (n, 1), &Device::Cpu).unwrap()
}

#[test]
fn series_need_the_dependent_bootstrap() -> Result<()> {
    let rejected = |lag: Option<f64>, shift: f64| -> Result<usize> {
        let mut count = 0;
        for i in 0..60 {
            let (x, y) = (series(120, 0.8, 2 * i), series(120, 0.8, 2 * i + 1));
            let test = WildBootstrap::new(
                gaussian(1.0),
                Estimator::Biased,
                Resampling::seeded(i).draws(99),
            );
            let test = match lag {
                Some(lag) => test.dependent(lag),
                None => test,
            };
            count += usize::from(test.test(&x, &(y + shift)?)?.rejected);
        }
        Ok(count)
    };
    let (signs, process, power) = (
        rejected(None, 0.0)?,
        rejected(Some(10.0), 0.0)?,
        rejected(Some(10.0), 2.0)?,
    );
    assert!(
        signs > 25 && process < 12 && power > 50,
        "{signs} {process} {power}"
    );
    Ok(())
}

#[test]
fn differences_are_found() -> Result<()> {
    let x = normal(&[60, 3], 1);
    let moved = (normal(&[60, 3], 2) + 0.8)?;
    let wider = (normal(&[60, 3], 2) * 2.5)?;
    let settings = Resampling::seeded(1).draws(499);
    for y in [moved, wider] {
        for y in [y.clone(), y.narrow(0, 0, 45)?] {
            for estimator in BOTH {
                assert!(permutations(estimator, settings).test(&x, &y)?.rejected);
            }
            assert!(
                MmdFuse::over_distances(&x, &y, 4, settings)?
                    .test(&x, &y)?
                    .rejected
            );
            let aggregated = MmdAgg::over_distances(&x, &y, 4, settings)?;
            assert!(aggregated.test(&x, &y)?.rejected);
            assert!(aggregated.permutations().test(&x, &y)?.rejected);
        }
        let wild = WildBootstrap::new(gaussian(1.5), Estimator::Unbiased, settings);
        assert!(wild.test(&x, &y)?.rejected);
    }
    Ok(())
}

#[test]
fn aggregation_finds_what_one_bandwidth_misses() -> Result<()> {
    // Sines of high frequency about a uniform density are seen by narrow kernels alone.
    let u = |number| decalign_core::random::Stream::new(4, number).uniform(400, 0.0, 1.0);
    let x = Tensor::from_vec(u(0), (400, 1), &Device::Cpu)?;
    // By rejection: of density 1 + sin(16 pi t).
    let keep = u(2).into_iter().zip(u(1));
    let wave = |t: f64| 1.0 + (16.0 * std::f64::consts::PI * t).sin();
    let y: Vec<f64> = keep
        .filter(|(v, t)| 2.0 * v < wave(*t))
        .map(|p| p.1)
        .collect();
    let count = y.len();
    let y = Tensor::from_vec(y, (count, 1), &Device::Cpu)?;
    let kernels = || vec![gaussian(1.0), gaussian(0.2), gaussian(0.02)];
    let settings = Resampling::seeded(1).draws(299);
    let found = MmdAgg::new(kernels(), settings).test(&x, &y)?;
    assert!(found.rejected && found.kernels[0].p_value > 0.05);
    assert_eq!(found.kernels[2].p_value, 1.0 / 300.0);
    let least = found.kernels.iter().map(|k| k.adjusted).fold(1.0, f64::min);
    assert_eq!(least, found.p_value);
    assert!(MmdFuse::new(kernels(), settings).test(&x, &y)?.rejected);
    // Weight where it does not help makes the test weaker.
    let weights = vec![0.9, 0.09, 0.01];
    let less = MmdAgg::new(kernels(), settings)
        .weights(weights)?
        .test(&x, &y)?;
    assert!(less.kernels[2].adjusted >= found.kernels[2].adjusted);
    Ok(())
}

#[test]
fn stopping_when_certain_decides_as_all_draws_do() -> Result<()> {
    let mut fewer = 0;
    for i in 0..30 {
        let (x, y) = (
            normal(&[20, 2], i),
            (normal(&[15, 2], 90 + i) + 0.05 * i as f64)?,
        );
        let test = permutations(Estimator::Unbiased, Resampling::seeded(i).draws(399));
        let all = test.test(&x, &y)?;
        let some = test.stopping(Stopping::WhenCertain).test(&x, &y)?;
        assert_eq!(all.rejected, some.rejected);
        assert_eq!(all.statistic, some.statistic);
        fewer += usize::from(some.draws < 399);
        if some.rejected {
            assert_eq!(all, some);
        }
    }
    assert!((5..25).contains(&fewer), "{fewer}");
    Ok(())
}

#[test]
fn threads_do_not_change_results() -> Result<()> {
    let (x, y) = (normal(&[330, 4], 1), normal(&[270, 4], 2));
    let z = normal(&[330, 4], 3);
    let settings = Resampling::seeded(2).draws(70);
    let run = |threads| -> Result<_> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let x = x.to_dtype(DType::F32)?;
            let (y, z) = (y.to_dtype(DType::F32)?, z.to_dtype(DType::F32)?);
            let test = permutations(Estimator::Unbiased, settings);
            let null = test.null(&x, &y)?;
            let wild = WildBootstrap::new(gaussian(1.0), Estimator::Unbiased, settings);
            let fused = MmdFuse::over_distances(&x, &y, 2, settings)?.test(&x, &y)?;
            let power = Power::new(gaussian(1.0), &x, &y, settings)?;
            let aggregated = MmdAgg::over_distances(&x, &z, 2, settings)?.test(&x, &z)?;
            Ok((null, wild.test(&x, &z)?, fused, power, aggregated))
        })
    };
    assert_eq!(run(1)?, run(4)?);
    Ok(())
}

#[test]
fn a_shift_of_f32_data_changes_no_decision() -> Result<()> {
    let x = normal(&[40, 3], 1).to_dtype(DType::F32)?;
    let y = (normal(&[30, 3], 2) + 0.4)?.to_dtype(DType::F32)?;
    let test = permutations(Estimator::Unbiased, Resampling::seeded(5).draws(399));
    let here = test.test(&x, &y)?;
    let far = test.test(&(&x + 1000.0)?, &(&y + 1000.0)?)?;
    let wide = test.test(&x.to_dtype(DType::F64)?, &y.to_dtype(DType::F64)?)?;
    assert!((here.statistic - far.statistic).abs() < 1e-4);
    assert!((here.p_value - far.p_value).abs() < 0.006);
    assert!((here.p_value - wide.p_value).abs() < 1e-9);
    // Views are as good as what they show.
    let turned = y.t()?.contiguous()?.t()?;
    assert_eq!(test.test(&x, &turned)?, here);
    Ok(())
}

#[test]
fn equal_points_give_one() -> Result<()> {
    let settings = Resampling::seeded(1).draws(99);
    for (n, m) in [(30, 20), (7, 7), (130, 101)] {
        for dtype in [DType::F32, DType::F64] {
            let (x, y) = (
                (Tensor::ones((n, 2), dtype, &Device::Cpu)? * 0.3)?,
                Tensor::ones((m, 2), dtype, &Device::Cpu)?,
            );
            let y = (y * 0.3)?;
            let kernel = (Kernel::gaussian_length_scale(0.7)? + Kernel::polynomial(2, 0.7, 0.3)?)
                .scaled(0.37)?;
            for estimator in BOTH {
                let test = PermutationTest::new(kernel.clone(), estimator, settings);
                let found = test.test(&x, &y)?;
                assert!(
                    found.p_value == 1.0 && !found.rejected,
                    "{n} {dtype:?} {found:?}"
                );
            }
            let kernels = vec![kernel.clone(), Kernel::laplace(1.0)?, Kernel::linear()];
            assert_eq!(
                MmdFuse::new(kernels.clone(), settings)
                    .test(&x, &y)?
                    .p_value,
                1.0
            );
            assert_eq!(MmdAgg::new(kernels, settings).test(&x, &y)?.p_value, 1.0);
        }
    }
    Ok(())
}

#[test]
fn extreme_points_are_finite_or_an_error() -> Result<()> {
    let settings = Resampling::seeded(1).draws(99);
    let x = Tensor::new(&[[0f32], [1e30], [2.0], [-1e30]], &Device::Cpu)?;
    let y = Tensor::new(&[[3f32], [-1e30], [1e30]], &Device::Cpu)?;
    let found: Outcome = permutations(Estimator::Unbiased, settings).test(&x, &y)?;
    assert!(found.statistic.is_finite() && found.p_value > 0.0);
    let energy = PermutationTest::new(Kernel::energy(), Estimator::Biased, settings);
    let text = energy.test(&x, &y).unwrap_err().to_string();
    assert!(text.contains("scale the samples down"), "{text}");
    Ok(())
}

fn says<A: std::fmt::Debug>(result: Result<A>, words: &str) {
    let text = result.unwrap_err().to_string();
    assert!(text.contains(words), "{text}");
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let settings = Resampling::seeded(1).draws(9);
    let test = |resampling| permutations(Estimator::Unbiased, resampling);
    let (x, y) = (normal(&[5, 2], 1), normal(&[4, 2], 2));
    says(test(settings).test(&x, &normal(&[4, 3], 2)), "sample 1");
    says(
        test(settings).test(&x, &y.to_dtype(DType::F32)?),
        "sample 1",
    );
    says(test(settings).test(&x, &normal(&[1, 2], 2)), "n >= 2");
    says(test(settings).test(&normal(&[5], 1), &y), "sample 0");
    says(
        test(settings).test(&x.to_dtype(DType::U32)?, &y),
        "f32 or f64",
    );
    let nan = Tensor::new(&[[0.0, 1.0], [f64::NAN, 2.0]], &Device::Cpu)?;
    says(test(settings).test(&x, &nan), "row 1, column 0");
    says(test(settings.draws(0)).test(&x, &y), "number of draws");
    for level in [0.0, 1.0, -0.1, f64::NAN] {
        says(test(settings.level(level)).test(&x, &y), "level");
        says(
            MmdAgg::new(vec![gaussian(1.0)], settings.level(level)).test(&x, &y),
            "level",
        );
    }
    says(
        test(settings).stopping(Stopping::After(0)).test(&x, &y),
        "stop after",
    );
    says(
        test(settings).exact(&normal(&[30, 2], 1), &normal(&[30, 2], 2)),
        "200000",
    );
    let wild = WildBootstrap::new(gaussian(1.0), Estimator::Biased, settings);
    says(wild.test(&x, &y), "must be 5");
    says(wild.dependent(0.0).test(&x, &x), "lag");
    says(
        MmdAgg::new(vec![], settings).test(&x, &y),
        "number of kernels",
    );
    says(
        MmdFuse::new(vec![], settings).test(&x, &y),
        "number of kernels",
    );
    says(
        MmdFuse::new(vec![gaussian(1.0)], settings)
            .sharpness(0.0)
            .test(&x, &y),
        "sharpness",
    );
    let two = || MmdAgg::new(vec![gaussian(1.0), gaussian(2.0)], settings);
    says(two().weights(vec![1.0]), "must be 2");
    says(two().weights(vec![0.9, 0.2]), "sum of weights");
    says(two().weights(vec![0.9, 0.0]), "must be positive");
    says(
        MmdAgg::over_distances(&x, &y, 0, settings),
        "number of bandwidths",
    );
    let same = Tensor::zeros((4, 2), DType::F64, &Device::Cpu)?;
    says(
        MmdFuse::over_distances(&same, &same, 3, settings),
        "all points are equal",
    );
    says(
        test(settings).simulated_power(&x, &y, (6, 2), 3),
        "at most 5",
    );
    says(test(settings).simulated_power(&x, &y, (2, 2), 0), "repeats");
    let power = Power::new(gaussian(1.0), &x, &x, settings)?;
    says(power.sample_size(0.9), "no difference");
    says(power.sample_size(1.0), "between 0 and 1");
    Ok(())
}
