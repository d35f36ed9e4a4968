//! Gradients: of densities, and through a fit by each of the three kinds.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::*;
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck};
use decalign_gmm::{Covariance, Em, Fit, Gradient, Initialization, Mixture, reference};

/// Symmetric positive definite, where there are matrices.
fn covariances(kind: Covariance, k: usize, d: usize) -> Tensor {
    let shape = kind.shape(k, d);
    let z = normal(&shape, 2);
    match kind {
        Covariance::Full | Covariance::Tied => {
            let rank = shape.len();
            let square = z.matmul(
                &z.transpose(rank - 2, rank - 1)
                    .unwrap()
                    .contiguous()
                    .unwrap(),
            );
            let unit = Tensor::eye(d, DType::F64, &Device::Cpu).unwrap();
            square.unwrap().broadcast_add(&unit).unwrap()
        }
        _ => (z.abs().unwrap() + 0.5).unwrap(),
    }
}

fn parts(x: &[Tensor], kind: Covariance) -> Result<Vec<Tensor>> {
    let mixture = Mixture::new(kind, &x[1], &x[2], &x[3])?;
    Ok(vec![
        mixture.log_densities(&x[0])?,
        mixture.log_density(&x[0])?,
        mixture.responsibilities(&x[0])?,
    ])
}

#[test]
fn densities() -> Result<()> {
    let weights = tensor(&[0.5, 0.2, 0.3], &[3]);
    for kind in KINDS {
        let inputs = [
            normal(&[5, 2], 1),
            weights.clone(),
            normal(&[3, 2], 3),
            covariances(kind, 3, 2),
        ];
        gradcheck(&inputs, 1e-7, |x| parts(x, kind))?;
    }
    Ok(())
}

#[test]
fn densities_equal_the_reference() -> Result<()> {
    let (k, d) = (3, 20);
    let weights = tensor(&[0.5, 0.2, 0.3], &[3]);
    for kind in [Covariance::Diagonal, Covariance::Spherical] {
        let x = [
            normal(&[9, d], 1),
            weights.clone(),
            normal(&[k, d], 3),
            covariances(kind, k, d),
        ];
        let plain = |x: &[Tensor]| {
            let logs = reference::log_densities(kind, &x[0], (&x[1], &x[2], &x[3]))?;
            Ok(vec![
                logs.clone(),
                logs.log_sum_exp(1)?,
                decalign_core::nn::softmax(&logs)?,
            ])
        };
        agree(&x, (1e-11, 1e-4), |x| parts(x, kind), plain)?;
    }
    Ok(())
}

#[test]
fn batches_of_densities() -> Result<()> {
    let kind = Covariance::Full;
    let one = covariances(kind, 2, 2);
    let inputs = [
        normal(&[2, 3, 2], 1),
        tensor(&[0.5, 0.5, 0.1, 0.9], &[2, 2]),
        normal(&[2, 2, 2], 3),
        Tensor::stack(&[&one, &(&one * 2.0)?], 0)?,
    ];
    gradcheck(&inputs, 1e-7, |x| parts(x, kind))
}

fn outputs(fit: &Fit, x: &Tensor) -> Result<Vec<Tensor>> {
    let m = &fit.mixture;
    Ok(vec![
        m.weights().clone(),
        m.means().clone(),
        m.covariances().clone(),
        m.responsibilities(x)?,
    ])
}

#[test]
fn unrolled() -> Result<()> {
    let x = groups(5, 2, 2, 2.0, 50);
    let weights = Tensor::from_vec(Stream::new(1, 0).uniform(10, 0.5, 2.0), 10, &Device::Cpu)?;
    let starts = [
        Initialization::EvenRows,
        Initialization::KMeans,
        Initialization::KMeansPlusPlus,
        Initialization::Random,
    ];
    for (kind, start) in KINDS
        .into_iter()
        .flat_map(|k| starts.clone().map(|s| (k, s)))
    {
        let em = Em::new(2, kind)?
            .initialization(start)
            .regularisation(0.1)?;
        let em = em
            .max_iterations(3)
            .tolerance(0.0)?
            .gradient(Gradient::Unrolled);
        gradcheck(&[x.clone(), weights.clone()], 1e-6, |x| {
            outputs(&em.fit_weighted(&x[0], &x[1])?, &x[0])
        })?;
    }
    Ok(())
}

#[test]
fn unrolled_in_single_precision() -> Result<()> {
    let x = groups(100, 3, 20, 4.0, 51);
    for kind in KINDS {
        let gradient = |dtype| -> Result<Tensor> {
            let em = Em::new(3, kind)?
                .initialization(Initialization::EvenRows)
                .max_iterations(4)
                .tolerance(0.0)?;
            let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
            let fit = em.gradient(Gradient::Unrolled).fit(&x)?;
            let loss = fit.mixture.covariances().sqr()?.sum_all()?;
            Ok(loss.backward()?.get(&x).unwrap().clone())
        };
        let error = off(&gradient(DType::F32)?, &gradient(DType::F64)?);
        assert!(error < 1e-3, "{kind:?}: {error:e}");
    }
    Ok(())
}

#[test]
fn implicit() -> Result<()> {
    let x = groups(6, 2, 2, 3.0, 52);
    let weights = Tensor::from_vec(Stream::new(1, 1).uniform(12, 0.5, 2.0), 12, &Device::Cpu)?;
    for kind in KINDS {
        let em = Em::new(2, kind)?
            .initialization(Initialization::EvenRows)
            .regularisation(0.1)?;
        let em = em
            .max_iterations(5000)
            .tolerance(1e-16)?
            .gradient(Gradient::Implicit);
        gradcheck(&[x.clone(), weights.clone()], 1e-5, |x| {
            outputs(&em.fit_weighted(&x[0], &x[1])?, &x[0])
        })?;
        let variable = Var::from_tensor(&x)?;
        let fit = em.fit(&variable)?;
        fit.mixture.means().sqr()?.sum_all()?.backward()?;
        let solve = fit.gradient_solves()[0];
        assert!(solve.converged && solve.residual <= 1e-10, "{solve:?}");
        assert!(solve.spectral_radius > 0.0 && solve.spectral_radius < 1.0 && solve.step < 1e-6);
    }
    Ok(())
}

#[test]
fn the_spectral_radius_is_the_rate_of_convergence() -> Result<()> {
    let x = groups(30, 2, 1, 2.5, 53);
    let em = Em::new(2, Covariance::Spherical)?
        .initialization(Initialization::EvenRows)
        .regularisation(0.0)?;
    let em = em.max_iterations(20_000);
    let variable = Var::from_tensor(&x)?;
    let fit = em
        .clone()
        .tolerance(1e-16)?
        .gradient(Gradient::Implicit)
        .fit(&variable)?;
    fit.mixture.means().sqr()?.sum_all()?.backward()?;
    let radius = fit.gradient_solves()[0].spectral_radius;
    // Distances to the limit fall by the radius a step.
    let limit = numbers(fit.mixture.means())[0];
    let away = |steps: usize| {
        let fit = em
            .clone()
            .tolerance(0.0)
            .unwrap()
            .max_iterations(steps)
            .fit(&x)
            .unwrap();
        (numbers(fit.mixture.means())[0] - limit).abs()
    };
    let steps = fit.convergence()[0].iterations / 2;
    let rate = (away(steps + 10) / away(steps)).powf(0.1);
    assert!((rate - radius).abs() < 1e-3, "{rate} {radius}");
    Ok(())
}

/// The gradient of the sum of squared means, and the fit.
fn gradient(x: &Tensor, gradient: Gradient, steps: Option<usize>) -> Result<(Tensor, Fit)> {
    let em = Em::new(2, Covariance::Diagonal)?.gradient(gradient);
    let em = match steps {
        Some(steps) => em.max_iterations(steps).tolerance(0.0)?,
        None => em.max_iterations(100_000).tolerance(1e-15)?,
    };
    let x = Var::from_tensor(x)?;
    let fit = em.fit(&x)?;
    let loss = fit.mixture.means().sqr()?.sum_all()?;
    Ok((loss.backward()?.get(&x).unwrap().clone(), fit))
}

fn error(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (numbers(a), numbers(b));
    let norm = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>().sqrt();
    let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(&b)
}

/// Spectral radius, and the errors of five unrolled steps, of the last step alone, and of all steps.
fn quantities(separation: f64, seed: u64) -> Result<[f64; 4]> {
    let x = groups(30, 2, 2, separation / 2f64.sqrt(), seed);
    let (exact, fit) = gradient(&x, Gradient::Implicit, None)?;
    let of = |g, steps| Ok::<_, decalign_core::Error>(error(&gradient(&x, g, steps)?.0, &exact));
    Ok([
        fit.gradient_solves()[0].spectral_radius,
        of(Gradient::Unrolled, Some(5))?,
        of(Gradient::OneStep, None)?,
        of(Gradient::Unrolled, Some(20_000))?,
    ])
}

/// The table of the crate's page, medians over samples 60 to 68: separation, spectral radius, error of five
/// unrolled steps, of one step.
const TABLE: [(f64, &str, &str, &str); 4] = [
    (4.0, "0.46", "6.1e-3", "9.7e-2"),
    (2.0, "0.93", "9.7e-1", "7.7e-1"),
    (1.0, "0.92", "1.0e0", "8.3e-1"),
    (0.5, "0.70", "9.9e-1", "5.6e-1"),
];

#[test]
fn table() -> Result<()> {
    let page = include_str!("../src/lib.rs");
    for (separation, radius, five, one) in TABLE {
        let line = format!("| {separation} | {radius} | {five} | {one} |");
        assert!(page.contains(&line), "not on the page: {line}");
        let all = (60..69).map(|seed| quantities(separation, seed));
        let all = all.collect::<Result<Vec<_>>>()?;
        for (i, want) in [radius, five, one].into_iter().enumerate() {
            let mut each: Vec<f64> = all.iter().map(|q| q[i]).collect();
            each.sort_by(f64::total_cmp);
            let (got, want): (f64, f64) = (each[4], want.parse().unwrap());
            assert!((got / want - 1.0).abs() < 0.06, "{separation}: {got:e}");
        }
        // All steps together have the gradient of the fixed point, up to what is left to go.
        assert!(all.iter().all(|q| q[3] < 1e-3), "{separation}: {all:?}");
    }
    Ok(())
}

#[test]
fn refusals() -> Result<()> {
    let x = Var::from_tensor(&groups(20, 2, 2, 1.0, 54))?;
    let em = Em::new(2, Covariance::Diagonal)?.gradient(Gradient::Implicit);
    let fit = em.clone().max_iterations(2).tolerance(0.0)?.fit(&x)?;
    let text = fit
        .mixture
        .means()
        .sum_all()?
        .backward()
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("did not converge") && text.contains("max_iterations"),
        "{text}"
    );
    // Two equal components: which is which is not determined.
    let same = Mixture::new(
        Covariance::Diagonal,
        &tensor(&[0.5, 0.5], &[2]),
        &x.mean_keepdim(0)?.repeat((2, 1))?,
        &tensor(&[1.0; 4], &[2, 2]),
    )?;
    let em = em
        .initialization(Initialization::Mixture(Box::new(same)))
        .max_iterations(100_000)
        .tolerance(0.0)?;
    let fit = em.fit(&x)?;
    assert!(fit.converged());
    let weights = tensor(&[1.0, -1.0], &[2]);
    let loss = (fit.mixture.weights() * weights)?.sum_all()?;
    let text = loss.backward().unwrap_err().to_string();
    assert!(
        text.contains("spectral radius") && text.contains("ill-conditioned"),
        "{text}"
    );
    Ok(())
}

#[test]
fn what_is_not_asked_for_is_not_there() -> Result<()> {
    let x = Var::from_tensor(&groups(10, 2, 2, 4.0, 55))?;
    let fit = Em::new(2, Covariance::Diagonal)?.fit(&x)?;
    let gradients = fit.mixture.means().sum_all()?.backward()?;
    assert!(gradients.get(&x).is_none());
    Ok(())
}

#[test]
fn the_flag_of_an_implicit_gradient_includes_its_fixed_point() -> Result<()> {
    let data = groups(30, 2, 2, 3.0 / 2f64.sqrt(), 5);
    let (exact, _) = gradient(&data, Gradient::Implicit, None)?;
    let mut flags = Vec::new();
    for tolerance in [None, Some(1e-5), Some(1e-3)] {
        for dtype in [DType::F64, DType::F32] {
            let x = Var::from_tensor(&data.to_dtype(dtype)?)?;
            let em = Em::new(2, Covariance::Diagonal)?.gradient(Gradient::Implicit);
            let em = match tolerance {
                Some(tolerance) => em.tolerance(tolerance)?,
                None => em,
            };
            let fit = em.fit(&x)?;
            assert!(fit.converged());
            let loss = fit.mixture.means().sqr()?.sum_all()?;
            let found = loss.backward()?.get(&x).unwrap().clone();
            let converged = fit.gradient_solves()[0].converged;
            let off = error(&found, &exact);
            assert!(!converged || off < 1e-3, "{tolerance:?} {dtype:?}: {off}");
            flags.push(converged);
        }
    }
    assert_eq!(flags, [true, true, false, false, false, false]);
    Ok(())
}
