//! Groups that are small beside their distances, and groups of equal rows.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Tensor};
use common::{groups, normal, numbers, tensor};
use decalign_core::Result;
use decalign_gmm::{Covariance, Em, Initialization};

/// Rows of three groups mixed by an oblique matrix, in the precision of `dtype`.
fn oblique(separation: f64, dtype: DType) -> Result<Tensor> {
    let mixing = tensor(&[1.0, 0.6, -0.3, 0.0, 0.5, 0.8, 0.2, -0.4, 1.0], &[3, 3]);
    let x = groups(200, 3, 3, separation, 1).matmul(&mixing)?;
    Ok(x.to_dtype(dtype)?)
}

/// The covariance of rows of `width` numbers about their mean.
fn covariance(rows: &[f64], width: usize) -> Vec<f64> {
    let n = rows.len() / width;
    let mean: Vec<f64> = (0..width)
        .map(|j| rows.iter().skip(j).step_by(width).sum::<f64>() / n as f64)
        .collect();
    let mut out = vec![0.0; width * width];
    for row in rows.chunks_exact(width) {
        for (at, o) in out.iter_mut().enumerate() {
            let (i, j) = (at / width, at % width);
            *o += (row[i] - mean[i]) * (row[j] - mean[j]) / n as f64;
        }
    }
    out
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| v.abs().max(m))
}

/// The covariances of the three groups.
fn of_groups(x: &Tensor) -> Vec<Vec<f64>> {
    numbers(x)
        .chunks_exact(600)
        .map(|rows| covariance(rows, 3))
        .collect()
}

#[test]
fn covariances_keep_their_digits_however_far_groups_are_apart() -> Result<()> {
    for (dtype, tolerance, separations) in [
        (DType::F32, 1e-3, &[10.0, 300.0, 2e3, 1e4][..]),
        (DType::F64, 1e-6, &[10.0, 1e4, 1e8]),
    ] {
        for separation in separations {
            let x = oblique(*separation, dtype)?;
            let want = of_groups(&x);
            let tied: Vec<f64> = (0..9)
                .map(|at| want.iter().map(|c| c[at]).sum::<f64>() / 3.0)
                .collect();
            for kind in [Covariance::Tied, Covariance::Full] {
                let fit = Em::new(3, kind)?
                    .regularisation(0.0)?
                    .tolerance(1e-7)?
                    .n_init(4)?
                    .fit(&x)?;
                let got = numbers(fit.mixture.covariances());
                for got in got.chunks_exact(9) {
                    let against: Vec<&[f64]> = match kind {
                        Covariance::Tied => vec![&tied],
                        _ => want.iter().map(Vec::as_slice).collect(),
                    };
                    let off = |want: &[f64]| -> f64 {
                        let pairs = got.iter().zip(want).map(|(a, b)| a - b);
                        largest(&pairs.collect::<Vec<_>>()) / largest(want)
                    };
                    let least = against.into_iter().map(off).fold(f64::INFINITY, f64::min);
                    assert!(
                        least < tolerance,
                        "{dtype:?} {separation} {kind:?}: {least}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn equal_rows_are_fitted_by_any_number_of_components() -> Result<()> {
    let rows: Vec<f64> = (0..50).map(|at| f64::from(u8::from(at < 25))).collect();
    let x = tensor(&rows, &[10, 5]);
    for start in [
        Initialization::KMeans,
        Initialization::KMeansPlusPlus,
        Initialization::EvenRows,
    ] {
        for kind in common::KINDS {
            let em = Em::new(10, kind)?.initialization(start.clone());
            let fit = em.clone().regularisation(1e-6)?.fit(&x)?;
            assert!(fit.converged(), "{start:?} {kind:?}");
            // Each component is at one of the two points.
            let means = numbers(fit.mixture.means());
            let weights = numbers(fit.mixture.weights());
            for (mean, weight) in means.chunks_exact(5).zip(weights) {
                let near = |point: f64| mean.iter().all(|m| (m - point).abs() < 1e-3);
                assert!(
                    weight < 1e-3 || near(0.0) || near(1.0) || kind == Covariance::Tied,
                    "{start:?} {kind:?}: {mean:?} {weight}"
                );
            }
            let error = em.regularisation(0.0)?.fit(&x).unwrap_err().to_string();
            assert!(error.contains("raise the regularisation"), "{error}");
        }
    }
    Ok(())
}

#[test]
fn restarts_differ_in_kind() -> Result<()> {
    // Two crossing lines: k-means cuts them at the crossing, and from there half of the fits end in a poor maximum.
    let z = numbers(&normal(&[300, 2], 7));
    let rows: Vec<f64> = z
        .chunks_exact(2)
        .enumerate()
        .flat_map(|(i, v)| match i % 2 {
            0 => [v[0] * 3.0, v[1] * 0.2],
            _ => [v[0] * 0.2, v[1] * 3.0],
        })
        .collect();
    let x = tensor(&rows, &[300, 2]);
    let mut restarts = Vec::new();
    for seed in 0..8 {
        let em = Em::new(2, Covariance::Full)?.seed(seed).n_init(4)?;
        let fit = em.fit(&x)?;
        assert!(fit.convergence()[0].log_likelihood() > -3.1, "{seed}");
        restarts.push(fit.convergence()[0].restart);
    }
    assert!(restarts.iter().any(|r| r % 2 == 1), "{restarts:?}");
    Ok(())
}
