//! What a mixture can do: densities by definition, samples, marginals, missing values, files, mini-batches.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::*;
use decalign_core::Result;
use decalign_gmm::{Covariance, Em, Mixture, OnlineEm};

fn fitted(kind: Covariance, width: usize) -> (Tensor, Mixture) {
    let x = groups(60, 3, width, 4.0, 70);
    // Columns that depend on one another.
    let turn =
        (normal(&[width, width], 71) + Tensor::eye(width, DType::F64, &Device::Cpu)).unwrap();
    let x = x.matmul(&turn).unwrap();
    let fit = Em::new(3, kind).unwrap().fit(&x).unwrap();
    (x, fit.mixture)
}

/// The inverse and determinant of a symmetric matrix by elimination.
fn inverse(a: &[f64], d: usize) -> (Vec<f64>, f64) {
    let (mut a, mut inverse) = (a.to_vec(), vec![0.0; d * d]);
    (0..d).for_each(|i| inverse[i * d + i] = 1.0);
    let mut determinant = 1.0;
    for i in 0..d {
        let pivot = a[i * d + i];
        determinant *= pivot;
        for j in 0..d {
            a[i * d + j] /= pivot;
            inverse[i * d + j] /= pivot;
        }
        for k in (0..d).filter(|k| *k != i) {
            let factor = a[k * d + i];
            for j in 0..d {
                a[k * d + j] -= factor * a[i * d + j];
                inverse[k * d + j] -= factor * inverse[i * d + j];
            }
        }
    }
    (inverse, determinant)
}

/// Component k's covariance as a matrix.
fn matrix(m: &Mixture, k: usize) -> Vec<f64> {
    let (d, c) = (m.width(), numbers(m.covariances()));
    let diagonal = |f: &dyn Fn(usize) -> f64| {
        (0..d * d)
            .map(|at| if at / d == at % d { f(at % d) } else { 0.0 })
            .collect()
    };
    match m.covariance() {
        Covariance::Full => c[k * d * d..][..d * d].to_vec(),
        Covariance::Tied => c,
        Covariance::Diagonal => diagonal(&|j| c[k * d + j]),
        Covariance::Spherical => diagonal(&|_| c[k]),
    }
}

fn by_definition(m: &Mixture, x: &[f64]) -> Vec<f64> {
    let (d, means, weights) = (m.width(), numbers(m.means()), numbers(m.weights()));
    let one = |k: usize| {
        let (p, determinant) = inverse(&matrix(m, k), d);
        let e: Vec<f64> = (0..d).map(|j| x[j] - means[k * d + j]).collect();
        let distance: f64 = (0..d * d).map(|at| e[at / d] * p[at] * e[at % d]).sum();
        let log = distance + determinant.ln() + d as f64 * std::f64::consts::TAU.ln();
        weights[k].ln() - 0.5 * log
    };
    (0..m.components()).map(one).collect()
}

#[test]
fn densities_are_the_definition() -> Result<()> {
    for (kind, width) in KINDS.into_iter().flat_map(|k| [1, 3, 18].map(|d| (k, d))) {
        let (x, mixture) = fitted(kind, width);
        let x = x.narrow(0, 3, 40)?;
        let got = mixture.log_densities(&x)?.to_vec2::<f64>()?;
        let total = numbers(&mixture.log_density(&x)?);
        for (i, row) in x.to_vec2::<f64>()?.iter().enumerate() {
            let want = by_definition(&mixture, row);
            for (got, want) in got[i].iter().zip(&want) {
                assert!(
                    (got - want).abs() < 1e-8 * want.abs().max(1.0),
                    "{kind:?} {got} {want}"
                );
            }
            let sum = want.iter().map(|v| v.exp()).sum::<f64>().ln();
            assert!(!sum.is_finite() || (total[i] - sum).abs() < 1e-8 * sum.abs().max(1.0));
        }
        let mean = total.iter().sum::<f64>() / total.len() as f64;
        assert!((number(&mixture.score(&x)?) - mean).abs() < 1e-12 * mean.abs());
    }
    Ok(())
}

#[test]
fn far_samples_have_finite_densities() -> Result<()> {
    let (_, mixture) = fitted(Covariance::Full, 3);
    let far = tensor(&[1e6, -1e9, 1e12, 0.0, 0.0, 1e4], &[2, 3]);
    for v in numbers(&mixture.log_density(&far)?) {
        assert!(v.is_finite() && v < -1e4);
    }
    for row in mixture.responsibilities(&far)?.to_vec2::<f64>()? {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn samples_have_the_mixtures_moments() -> Result<()> {
    for kind in KINDS {
        let (_, mixture) = fitted(kind, 3);
        let (x, labels) = mixture.sample(20_000, 7)?;
        let again = mixture.sample(20_000, 7)?.0;
        assert_eq!(numbers(&x), numbers(&again));
        assert_ne!(numbers(&x), numbers(&mixture.sample(20_000, 8)?.0));
        let (rows, labels) = (x.to_vec2::<f64>()?, labels.to_vec1::<u32>()?);
        for k in 0..3 {
            let own: Vec<&Vec<f64>> = rows
                .iter()
                .zip(&labels)
                .filter(|(_, l)| **l == k)
                .map(|(r, _)| r)
                .collect();
            let n = own.len() as f64;
            let weight = numbers(mixture.weights())[k as usize];
            assert!((n / 2e4 - weight).abs() < 5.0 * (weight / 2e4).sqrt());
            let means = mixture.means().to_vec2::<f64>()?;
            let want = matrix(&mixture, k as usize);
            for (i, j) in (0..3).flat_map(|i| (0..=i).map(move |j| (i, j))) {
                let m = &means[k as usize];
                let got: f64 = own
                    .iter()
                    .map(|r| (r[i] - m[i]) * (r[j] - m[j]))
                    .sum::<f64>()
                    / n;
                let size = (want[i * 4] * want[j * 4]).sqrt();
                assert!(
                    (got - want[i * 3 + j]).abs() < 5.0 * 1.5 * size / n.sqrt(),
                    "{kind:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn marginals_and_conditionals_make_the_whole() -> Result<()> {
    for kind in KINDS {
        let (x, mixture) = fitted(kind, 4);
        let (given, rest) = ([2usize, 0], [1u32, 3]);
        let marginal = mixture.marginal(&given)?;
        for i in [0, 70, 130] {
            let row = x.narrow(0, i, 1)?;
            let values = row.to_vec2::<f64>()?[0].clone();
            let a = [values[2], values[0]];
            let conditional = mixture.conditional(&given, &a)?;
            assert_eq!((conditional.width(), conditional.covariance()), (2, kind));
            let b = row.index_select(&Tensor::new(&rest, &Device::Cpu)?, 1)?;
            let joint = number(&mixture.score(&row)?);
            let parts =
                number(&marginal.score(&tensor(&a, &[1, 2]))?) + number(&conditional.score(&b)?);
            assert!(
                (joint - parts).abs() < 1e-8 * joint.abs().max(1.0),
                "{kind:?}: {joint} {parts}"
            );
        }
    }
    let (_, mixture) = fitted(Covariance::Full, 3);
    for wrong in [&[][..], &[3], &[1, 1]] {
        assert!(mixture.marginal(wrong).is_err());
    }
    assert!(
        mixture
            .conditional(&[0, 1, 2], &[0.0; 3])
            .unwrap_err()
            .to_string()
            .contains("at least one")
    );
    assert!(
        mixture.conditional(&[0], &[]).is_err() && mixture.conditional(&[0], &[f64::NAN]).is_err()
    );
    Ok(())
}

#[test]
fn missing_values_are_expectations() -> Result<()> {
    for kind in KINDS {
        let (x, mixture) = fitted(kind, 4);
        let mut rows = x.narrow(0, 0, 6)?.to_vec2::<f64>()?;
        let whole = rows.clone();
        (rows[1][2], rows[2][2], rows[2][0]) = (f64::NAN, f64::NAN, f64::NAN);
        rows[4] = vec![f64::NAN; 4];
        let given = Tensor::new(rows, &Device::Cpu)?;
        let got = mixture.impute(&given)?.to_vec2::<f64>()?;
        for i in [0, 3, 5] {
            assert_eq!(got[i], whole[i]);
        }
        let conditional = mixture.conditional(&[1, 3], &[whole[2][1], whole[2][3]])?;
        let expected = |m: &Mixture, j: usize| -> f64 {
            let means = m.means().to_vec2::<f64>().unwrap();
            numbers(m.weights())
                .iter()
                .zip(means)
                .map(|(w, m)| w * m[j])
                .sum()
        };
        for (j, to) in [(0, 0), (1, 2)] {
            assert!((got[2][to] - expected(&conditional, j)).abs() < 1e-9);
        }
        assert!((0..4).all(|j| (got[4][j] - expected(&mixture, j)).abs() < 1e-9));
        assert!(got[1][0] == whole[1][0] && got[1][2].is_finite());
    }
    let (_, mixture) = fitted(Covariance::Full, 2);
    let text = mixture
        .impute(&tensor(&[1.0, f64::INFINITY], &[1, 2]))
        .unwrap_err()
        .to_string();
    assert!(text.contains("row 0, column 1"), "{text}");
    Ok(())
}

#[test]
fn files_give_back_what_was_saved() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixture.safetensors");
    for kind in KINDS {
        // Three components in three dimensions: no shape tells the forms apart.
        let (_, mixture) = fitted(kind, 3);
        mixture.save(&path)?;
        let loaded = Mixture::load(&path)?;
        assert_eq!(loaded.covariance(), kind);
        same(&loaded, &mixture, 0.0);
    }
    candle_core::safetensors::save(
        &std::collections::HashMap::from([("x", normal(&[1], 0))]),
        &path,
    )?;
    assert!(
        Mixture::load(&path)
            .unwrap_err()
            .to_string()
            .contains("absent")
    );
    Ok(())
}

#[test]
fn bad_mixtures_are_errors() -> Result<()> {
    let kind = Covariance::Full;
    let (weights, means) = (tensor(&[0.5, 0.5], &[2]), normal(&[2, 2], 0));
    let unit = tensor(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], &[2, 2, 2]);
    let says = |w: &Tensor, m: &Tensor, c: &Tensor, words: &str| {
        let text = Mixture::new(kind, w, m, c).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    assert!(Mixture::new(kind, &weights, &means, &unit).is_ok());
    says(&tensor(&[0.5, 0.6], &[2]), &means, &unit, "must be 1");
    says(&tensor(&[1.5, -0.5], &[2]), &means, &unit, "negative");
    says(&tensor(&[1.0], &[1]), &means, &unit, "weights");
    says(&weights, &(&means * f64::NAN)?, &unit, "finite");
    says(&weights, &means, &(&unit - 1.0)?, "positive definite");
    says(&weights, &means.to_dtype(DType::F32)?, &unit, "F32");
    let mixture = Mixture::new(kind, &weights, &means, &unit)?;
    assert!(
        mixture
            .log_densities(&normal(&[3, 3], 0))
            .unwrap_err()
            .to_string()
            .contains("(n, 2)")
    );
    assert!(mixture.sample(0, 0).is_err() && mixture.get(1).is_err());
    Ok(())
}

#[test]
fn mini_batches_find_the_mixture() -> Result<()> {
    for kind in KINDS {
        let x = groups(1000, 2, 2, 5.0, 80);
        let order: Vec<u32> = (0..2000u32).map(|i| i * 1013 % 2000).collect();
        let x = x.index_select(&Tensor::new(order, &Device::Cpu)?, 0)?;
        let whole = Em::new(2, kind)?.fit(&x)?.mixture;
        let first = Em::new(2, kind)?.fit(&x.narrow(0, 0, 40)?)?.mixture;
        let mut online = OnlineEm::new(&first)?.schedule(0.9, 2.0)?;
        for i in 0..100 {
            assert!(online.update(&x.narrow(0, i % 50 * 40, 40)?)?.is_finite());
        }
        let got = online.mixture();
        let score = |m: &Mixture| number(&m.score(&x).unwrap());
        let (early, late, best) = (score(&first), score(got), score(&whole));
        assert!(
            late > early && best - late < 0.1 * (best - early),
            "{kind:?}: {early} {late} {best}"
        );
    }
    Ok(())
}

#[test]
fn one_mini_batch_of_everything_is_a_step() -> Result<()> {
    let x = groups(50, 3, 3, 3.0, 81);
    for kind in KINDS {
        let start = Em::new(3, kind)?.fit(&groups(50, 3, 3, 2.0, 82))?.mixture;
        let start = Box::new(start);
        let want =
            Em::new(3, kind)?.initialization(decalign_gmm::Initialization::Mixture(start.clone()));
        let want = want.max_iterations(1).tolerance(0.0)?.fit(&x)?.mixture;
        // Without delay the first batch takes the place of the start.
        let mut online = OnlineEm::new(&start)?.schedule(1.0, 0.0)?;
        online.update(&x)?;
        same(online.mixture(), &want, 1e-9);
    }
    assert!(
        OnlineEm::new(&fitted(Covariance::Full, 2).1)?
            .schedule(0.5, 1.0)
            .is_err()
    );
    Ok(())
}
