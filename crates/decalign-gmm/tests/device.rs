//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::{Result, gradcheck};
use decalign_gmm::{Covariance, Em, Gradient, UnrolledEm, UnrolledFit};
use decalign_testkit::normal;

fn parts(fit: UnrolledFit) -> Vec<Tensor> {
    let mass = fit.prototype_mass().unwrap();
    vec![
        fit.weights,
        fit.means,
        fit.variances,
        fit.responsibilities,
        mass,
    ]
}

#[test]
fn the_releases_fit_and_its_gradient() -> Result<()> {
    // The model's; more components than samples; one of either; no step.
    for (batch, width, k, iterations) in [
        (32, 40, 6, 5),
        (9, 4, 3, 5),
        (5, 3, 7, 5),
        (1, 3, 2, 3),
        (6, 2, 1, 2),
        (8, 17, 3, 0),
        (33, 65, 4, 1),
    ] {
        let settings = UnrolledEm::new(k, iterations, 1e-4)?;
        holds(&[normal(&[batch, width], 1)], (1e-9, 2e-2), |x| {
            Ok(parts(settings.fit(&x[0])?))
        })?;
    }
    Ok(())
}

#[test]
fn several_mixtures_at_once() -> Result<()> {
    // Two launches; shapes that differ; more than shared memory holds; one of the parts alone.
    let settings = UnrolledEm::new(3, 2, 1e-2)?;
    let four: Vec<Tensor> = (0..4).map(|i| normal(&[9, 4], 10 + i)).collect();
    let unlike = [normal(&[9, 4], 1), normal(&[7, 5], 2)];
    let large = [normal(&[70, 40], 1), normal(&[70, 40], 2)];
    for inputs in [&four[..], &unlike, &large] {
        holds(inputs, (1e-9, 2e-2), |x| {
            let each = settings.prototypes(x)?.into_iter();
            Ok(each
                .flat_map(|(fit, mass)| [fit.means, fit.variances, fit.responsibilities, mass])
                .collect())
        })?;
    }
    holds(&four[..2], (1e-9, 2e-2), |x| {
        let [(_, a), (b, _)] = <[_; 2]>::try_from(settings.prototypes(x)?).ok().unwrap();
        Ok(vec![a, b.weights])
    })?;
    if available() {
        let alone = emulated(4, || settings.fit(&four[3]))?;
        let together = emulated(5, || settings.fit_all(&four))?;
        let same = (&alone.means - &together[3].means)?.abs()?.max_all()?;
        assert_eq!(same.to_scalar::<f64>()?, 0.0);
    }
    Ok(())
}

#[test]
fn floors() -> Result<()> {
    // A floor that holds some variances, and a column that does not vary.
    let settings = UnrolledEm::new(3, 2, 0.4)?;
    holds(&[normal(&[9, 3], 2)], (1e-9, 1e-3), |x| {
        Ok(parts(settings.fit(&(&x[0] * 0.8)?)?))
    })?;
    // Samples so far apart that components lose theirs.
    let settings = UnrolledEm::new(5, 3, 1e-3)?;
    holds(&[normal(&[3, 2], 3)], (1e-8, 2e-2), |x| {
        Ok(parts(settings.fit(&(&x[0] * 3.0)?)?))
    })
}

#[test]
fn gradients_are_those_of_the_values() -> Result<()> {
    if !available() {
        return Ok(());
    }
    for (batch, width, k) in [(9, 4, 3), (5, 3, 7)] {
        let settings = UnrolledEm::new(k, 3, 1e-4)?;
        gradcheck(&[normal(&[batch, width], 2)], 1e-6, |x| {
            emulated(2, || Ok(parts(settings.fit(&x[0])?)))
        })?;
    }
    Ok(())
}

#[test]
fn fits_of_many_samples() -> Result<()> {
    for (n, d, k, kind) in [
        (70, 3, 2, Covariance::Diagonal),
        (31, 5, 3, Covariance::Spherical),
        (130, 33, 9, Covariance::Diagonal),
    ] {
        let em = Em::new(k, kind)?.max_iterations(3);
        let em = em.tolerance(0.0)?.gradient(Gradient::Unrolled);
        holds(&[normal(&[n, d], 4)], (1e-9, 5e-3), |x| {
            let mixture = em.fit(&x[0])?.mixture;
            Ok(vec![
                mixture.weights().clone(),
                mixture.means().clone(),
                mixture.covariances().clone(),
            ])
        })?;
    }
    Ok(())
}

#[test]
fn weights_count_samples() -> Result<()> {
    let em = Em::new(2, Covariance::Diagonal)?.max_iterations(4);
    let em = em.gradient(Gradient::Unrolled);
    let inputs = [normal(&[2, 40, 3], 5), normal(&[2, 40], 6)];
    holds(&inputs, (1e-9, 5e-3), |x| {
        let mixture = em.fit_weighted(&x[0], &x[1].sqr()?)?.mixture;
        Ok(vec![mixture.weights().clone(), mixture.means().clone()])
    })
}
