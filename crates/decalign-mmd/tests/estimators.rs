//! Lengths from data, estimates from some pairs, approximations, variances, streams.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{distance, kernels, normal, same, value};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_mmd::{
    CentralMomentDiscrepancy, Estimator, Kernel, Mmd, Nystrom, RandomFeatures, Smoothness,
    StreamingMmd, bandwidths_between_quantiles, central_moment_discrepancy, coral,
    distance_quantiles, median_heuristic, median_heuristic_of_subsample, moment_matching,
    reference,
};

fn sorted_distances(x: &Tensor) -> Vec<f64> {
    let rows = x.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    let mut all = Vec::new();
    for (i, a) in rows.iter().enumerate() {
        for b in &rows[..i] {
            all.push(
                a.iter()
                    .zip(b)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
                    .sqrt(),
            );
        }
    }
    all.sort_by(f64::total_cmp);
    all
}

#[test]
fn quantiles_are_order_statistics() -> Result<()> {
    // Few pairs, and more than are held at once.
    for (n, m) in [(9, 8), (1300, 900)] {
        let (x, y) = (normal(&[n, 3], 0), normal(&[m, 3], 1));
        let want = sorted_distances(&Tensor::cat(&[&x, &y], 0)?);
        let levels = [0.0, 0.05, 0.5, 0.9, 1.0];
        for dtype in [DType::F64, DType::F32] {
            let got = distance_quantiles(&[x.to_dtype(dtype)?, y.to_dtype(dtype)?], &levels)?;
            for (got, level) in got.iter().zip(levels) {
                let want = want[(level * (want.len() - 1) as f64).floor() as usize];
                let tolerance = if dtype == DType::F64 { 1e-12 } else { 1e-4 };
                assert!(
                    (got - want).abs() < tolerance * (1.0 + want),
                    "{level}: {got} {want}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn median_rules() -> Result<()> {
    let x = Tensor::new(&[[0.0f64], [1.0]], &Device::Cpu)?;
    let y = Tensor::new(&[[4.0f64]], &Device::Cpu)?;
    // Distances 1, 3, 4.
    assert_eq!(median_heuristic(&[x.clone(), y.clone()])?, 3.0);
    assert_eq!(
        median_heuristic_of_subsample(&[x, y], 9, Stream::new(1, 0))?,
        3.0
    );
    let z = normal(&[600, 4], 0);
    let (all, some) = (
        median_heuristic(std::slice::from_ref(&z))?,
        median_heuristic_of_subsample(std::slice::from_ref(&z), 200, Stream::new(1, 0))?,
    );
    assert!((all - some).abs() < 0.1 * all && all != some);
    let grid = bandwidths_between_quantiles(std::slice::from_ref(&z), (0.05, 0.95), 5)?;
    let ends = distance_quantiles(&[z], &[0.05, 0.95])?;
    assert!((grid[0] - ends[0]).abs() < 1e-12 && (grid[4] - ends[1]).abs() < 1e-12);
    assert!((grid[1] / grid[0] - grid[4] / grid[3]).abs() < 1e-12);
    let equal = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
    let message = median_heuristic(std::slice::from_ref(&equal))
        .unwrap_err()
        .to_string();
    assert!(message.contains("give a bandwidth"), "{message}");
    assert!(median_heuristic(&[equal.narrow(0, 0, 1)?]).is_err());
    assert!(distance_quantiles(&[equal], &[1.5]).is_err());
    Ok(())
}

#[test]
fn incomplete_statistics_are_means_of_h() -> Result<()> {
    let (n, d) = (7, 3);
    let (x, y) = (normal(&[n, d], 0), normal(&[n, d], 1));
    for kernel in kernels() {
        let mmd = Mmd::new(kernel.clone(), Estimator::Unbiased);
        let entries = |a: &Tensor, b: &Tensor| -> Result<Vec<Vec<f64>>> {
            Ok(reference::kernel_matrix(&kernel, a, b)?.to_vec2()?)
        };
        let (xx, yy, xy) = (entries(&x, &x)?, entries(&y, &y)?, entries(&x, &y)?);
        let h = |i: usize, j: usize| xx[i][j] + yy[i][j] - xy[i][j] - xy[j][i];
        let want: f64 = (0..n)
            .map(|i| h(i, (i + 1) % n) + h(i, (i + 2) % n))
            .sum::<f64>()
            / 14.0;
        assert!((value(&mmd.incomplete(&x, &y, 2)?) - want).abs() < 1e-12);
        let want = (h(0, 1) + h(2, 3) + h(4, 5)) / 3.0;
        let linear = mmd.linear_time(&x, &y)?;
        assert!((value(&linear.squared) - want).abs() < 1e-12);
        let spread: f64 = [h(0, 1), h(2, 3), h(4, 5)]
            .iter()
            .map(|h| (h - want).powi(2))
            .sum();
        assert!((value(&linear.variance) - spread / 6.0).abs() < 1e-12);
        gradcheck(&[x.clone(), y.clone()], 1e-7, |x| {
            Ok(vec![mmd.incomplete(&x[0], &x[1], 2)?])
        })?;
        // All diagonals: the U-statistic without the pairs (x_i, y_i).
        let all: f64 = (0..n)
            .flat_map(|i| (0..n).filter(move |j| *j != i).map(move |j| (i, j)))
            .map(|(i, j)| h(i, j))
            .sum();
        let complete = value(&mmd.incomplete(&x, &y, 3)?);
        assert!((complete - all / 42.0).abs() < 1e-12);
    }
    let mmd = Mmd::new(Kernel::energy(), Estimator::Unbiased);
    assert!(mmd.incomplete(&x, &y, 7).is_err() && mmd.incomplete(&x, &y, 0).is_err());
    assert!(mmd.linear_time(&x, &y.narrow(0, 0, 5)?).is_err());
    let with = |x: &[Tensor]| {
        Mmd::new(Kernel::gaussian_length_scale(&x[2])?, Estimator::Biased)
            .incomplete(&x[0], &x[1], 3)
    };
    gradcheck(&[x, y, Tensor::new(1.4, &Device::Cpu)?], 1e-7, |x| {
        Ok(vec![with(x)?])
    })
}

#[test]
fn blocks_are_means_of_unbiased_estimates() -> Result<()> {
    let (x, y) = (normal(&[23, 3], 0), normal(&[21, 3], 1));
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.5)?, Estimator::Unbiased);
    let mut stream = StreamingMmd::new(Kernel::gaussian_length_scale(1.5)?);
    let mut values = Vec::new();
    for b in 0..4 {
        let (x, y) = (x.narrow(0, b * 5, 5)?, y.narrow(0, b * 5, 5)?);
        values.push(value(&mmd.squared(&x, &y)?));
        stream.push(&x, &y)?;
    }
    let mean = values.iter().sum::<f64>() / 4.0;
    assert!((value(&mmd.blocks(&x, &y, 5)?) - mean).abs() < 1e-14);
    assert!((stream.squared()? - mean).abs() < 1e-14 && stream.chunks() == 4);
    let spread: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    assert!((stream.variance().unwrap() - spread / 12.0).abs() < 1e-15);
    assert!(StreamingMmd::new(Kernel::energy()).squared().is_err());
    assert!(mmd.blocks(&x, &y, 1).is_err() && mmd.blocks(&x, &y, 22).is_err());
    gradcheck(&[x, y], 1e-7, |x| Ok(vec![mmd.blocks(&x[0], &x[1], 5)?]))
}

#[test]
fn the_variance_is_that_of_row_means() -> Result<()> {
    let (n, m) = (6usize, 5usize);
    let (x, y) = (normal(&[n, 3], 0), normal(&[m, 3], 1));
    for kernel in kernels() {
        let mmd = Mmd::new(kernel.clone(), Estimator::Unbiased);
        let got = mmd.estimate(&x, &y)?;
        assert!(distance(&got.squared, &mmd.squared(&x, &y)?) < 1e-12);
        let entries = |a: &Tensor, b: &Tensor| -> Result<Vec<Vec<f64>>> {
            Ok(reference::kernel_matrix(&kernel, a, b)?.to_vec2()?)
        };
        let (xx, yy, xy, yx) = (
            entries(&x, &x)?,
            entries(&y, &y)?,
            entries(&x, &y)?,
            entries(&y, &x)?,
        );
        let rows = |own: &[Vec<f64>], other: &[Vec<f64>]| -> f64 {
            let count = own.len() as f64;
            let each: Vec<f64> = (0..own.len())
                .map(|i| {
                    let within = own[i].iter().sum::<f64>() - own[i][i];
                    within / (count - 1.0) - other[i].iter().sum::<f64>() / other[i].len() as f64
                })
                .collect();
            let mean = each.iter().sum::<f64>() / count;
            4.0 * each.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0) / count
        };
        let want = rows(&xx, &xy) + rows(&yy, &yx);
        assert!((value(&got.variance) - want).abs() < 1e-11 * (1.0 + want));
        gradcheck(&[x.clone(), y.clone()], 1e-6, |x| {
            let e = mmd.estimate(&x[0], &x[1])?;
            Ok(vec![e.squared, e.variance])
        })?;
    }
    let with =
        |x: &[Tensor]| Mmd::new(Kernel::laplace(&x[2])?, Estimator::Biased).estimate(&x[0], &x[1]);
    gradcheck(&[x, y, Tensor::new(1.4, &Device::Cpu)?], 1e-6, |x| {
        Ok(vec![with(x)?.variance])
    })
}

#[test]
fn the_variance_is_that_of_repeated_estimates() -> Result<()> {
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Unbiased);
    let (mut values, mut predicted) = (Vec::new(), 0.0);
    for i in 0..200 {
        let (x, y) = (
            normal(&[60, 1], 2 * i),
            (normal(&[40, 1], 2 * i + 1) + 1.5)?,
        );
        let e = mmd.estimate(&x, &y)?;
        values.push(value(&e.squared));
        predicted += value(&e.variance) / 200.0;
    }
    let mean = values.iter().sum::<f64>() / 200.0;
    let seen = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 199.0;
    // The variance of 200 numbers is known to 10 percent (one deviation).
    assert!((seen / predicted - 1.0).abs() < 0.35, "{seen} {predicted}");
    Ok(())
}

#[test]
fn the_witness_separates() -> Result<()> {
    let inputs = [normal(&[4, 2], 0), normal(&[7, 2], 1), normal(&[6, 2], 2)];
    for kernel in kernels() {
        let mmd = Mmd::new(kernel.clone(), Estimator::Biased);
        same(
            &inputs,
            (1e-12, 1e-4),
            &|x| mmd.witness(&x[0], &x[1], &x[2]),
            &|x| {
                let mean = |y: &Tensor| -> Result<Tensor> {
                    Ok(reference::kernel_matrix(&kernel, &x[0], y)?.mean(1)?)
                };
                Ok((mean(&x[1])? - mean(&x[2])?)?)
            },
        );
        gradcheck(&inputs, 1e-7, |x| {
            Ok(vec![mmd.witness(&x[0], &x[1], &x[2])?])
        })?;
    }
    Ok(())
}

#[test]
fn random_features_approach_the_kernel() -> Result<()> {
    let (x, y) = (normal(&[30, 3], 0), (normal(&[25, 3], 1) + 1.0)?);
    let some = [
        Kernel::gaussian_length_scale(1.5)?,
        Kernel::gaussian_variance(2.0)?,
        Kernel::laplace(3.0)?,
        Kernel::matern(Smoothness::Half, 2.0)?,
        Kernel::matern(Smoothness::ThreeHalves, 2.0)?,
        Kernel::matern(Smoothness::FiveHalves, 2.0)?,
    ];
    for kernel in some {
        let features = RandomFeatures::new(&kernel, 3, 8000, Stream::new(3, 0))?;
        let (a, b) = (features.features(&x)?, features.features(&y)?);
        let error =
            (a.matmul(&b.t()?.contiguous()?)? - reference::kernel_matrix(&kernel, &x, &y)?)?;
        // The largest of 750 entries: four deviations.
        assert!(distance(&error, &error.zeros_like()?) < 4.0 / 16000f64.sqrt());
        let exact = value(&Mmd::new(kernel, Estimator::Biased).squared(&x, &y)?);
        assert!((value(&features.squared(&x, &y)?) - exact).abs() < 0.03);
        let shifted = features.squared(&(&x + 7.0)?, &(&y + 7.0)?)?;
        assert!(distance(&shifted, &features.squared(&x, &y)?) < 1e-9);
    }
    let few = RandomFeatures::new(
        &Kernel::gaussian_length_scale(1.0)?,
        3,
        5,
        Stream::new(3, 0),
    )?;
    let w = common::weights(30, 0);
    // The centre counts as a constant, which changes nothing: the approximate kernel depends on differences.
    gradcheck(
        &[x.narrow(0, 0, 5)?, y.narrow(0, 0, 4)?, w.narrow(0, 0, 5)?],
        1e-7,
        |x| Ok(vec![few.squared((&x[0], &x[2]), &x[1])?]),
    )?;
    assert!(RandomFeatures::new(&Kernel::energy(), 3, 5, Stream::new(3, 0)).is_err());
    assert!(few.features(&normal(&[3, 2], 0)).is_err());
    Ok(())
}

#[test]
fn nystrom_is_a_projection() -> Result<()> {
    let (x, y) = (normal(&[12, 3], 0), (normal(&[10, 3], 1) + 0.5)?);
    let samples = [x.clone(), y.clone()];
    for kernel in [
        Kernel::gaussian_length_scale(1.5)?,
        Kernel::laplace(3.0)?,
        Kernel::inverse_multiquadric(1.0)?,
    ] {
        let exact = value(&Mmd::new(kernel.clone(), Estimator::Biased).squared(&x, &y)?);
        let mut before = 0.0;
        for count in [2, 8, 22] {
            let some = Nystrom::uniform(kernel.clone(), &samples, count, Stream::new(1, 0))?;
            let got = value(&some.squared(&x, &y)?);
            assert!(got <= exact * (1.0 + 1e-9) && got >= before * (1.0 - 1e-9));
            before = got;
            if count < 22 {
                gradcheck(&samples, 1e-6, |x| Ok(vec![some.squared(&x[0], &x[1])?]))?;
            }
        }
        assert!((before - exact).abs() < 1e-8 * exact, "{before} {exact}");
        // Equal landmarks are no more than one.
        let twice = Tensor::cat(&[&x, &x], 0)?;
        let (one, two) = (
            Nystrom::new(kernel.clone(), &x)?,
            Nystrom::new(kernel, &twice)?,
        );
        assert!(distance(&one.squared(&x, &y)?, &two.squared(&x, &y)?) < 1e-6);
    }
    assert!(Nystrom::new(Kernel::energy(), &x).is_err());
    Ok(())
}

#[test]
fn moments_equal_their_references() -> Result<()> {
    let of = |sizes: &[usize], d: usize| -> Vec<Tensor> {
        let each = sizes.iter().enumerate();
        each.map(|(i, n)| normal(&[*n, d], i as u64)).collect()
    };
    let cmd = CentralMomentDiscrepancy::new(5, 2.0)?;
    for samples in [
        of(&[5, 3], 4),
        of(&[32, 32, 32], 16),
        of(&[2, 4, 3, 6], 3),
        of(&[1, 2], 3),
    ] {
        let tolerance = (1e-11, 1e-4);
        same(
            &samples,
            tolerance,
            &moment_matching,
            &reference::moment_matching,
        );
        same(&samples, tolerance, &coral, &reference::coral);
        same(
            &samples,
            tolerance,
            &|x| central_moment_discrepancy(x, cmd),
            &|x| reference::central_moment_discrepancy(x, cmd),
        );
    }
    let samples = of(&[4, 3, 5], 3);
    gradcheck(&samples, 1e-7, |x| {
        Ok(vec![
            moment_matching(x)?,
            coral(x)?,
            central_moment_discrepancy(x, cmd)?,
        ])
    })
}

#[test]
fn moments_are_zero_with_finite_gradients_at_equality() -> Result<()> {
    let x = candle_core::Var::from_tensor(&normal(&[6, 3], 0))?;
    let samples = [x.as_tensor().clone(), x.detach()];
    for y in [
        central_moment_discrepancy(&samples, CentralMomentDiscrepancy::new(4, 1.0)?)?,
        coral(&samples)?,
        moment_matching(&samples)?,
    ] {
        let gradient = y.backward()?.get(&x).unwrap().sqr()?.sum_all()?;
        assert!(value(&y) == 0.0 && value(&gradient) == 0.0);
    }
    // A shift moves the mean alone, by its length.
    let shifted = (&samples[0] + 3.0)?;
    let settings = CentralMomentDiscrepancy::new(4, 2.0)?;
    let cmd = central_moment_discrepancy(&[samples[0].clone(), shifted], settings)?;
    let cmd = value(&cmd);
    assert!((cmd - 27f64.sqrt() / 2.0).abs() < 1e-12);
    assert!(
        CentralMomentDiscrepancy::new(0, 1.0).is_err()
            && CentralMomentDiscrepancy::new(2, 0.0).is_err()
    );
    let nan = Tensor::new(&[[0.0, f64::NAN, 2.0]], &Device::Cpu)?;
    let message = coral(&[samples[0].clone(), nan.clone()])
        .unwrap_err()
        .to_string();
    assert!(message.contains("sample 1 at row 0, column 1"), "{message}");
    assert!(moment_matching(&[samples[0].clone(), nan]).is_err());
    Ok(())
}
