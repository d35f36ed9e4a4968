//! The fit: fused equals reference, values and gradients; known mixtures; bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::{Result, agree, gradcheck};
use decalign_gmm::{UnrolledEm, UnrolledFit, reference};
use decalign_testkit::{largest_difference as distance, normal};
use proptest::prelude::*;

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
fn fused_equals_reference() -> Result<()> {
    for (batch, width, k, iterations) in [
        (9, 4, 3, 5),
        (32, 64, 7, 5),
        (5, 3, 7, 5),
        (1, 3, 2, 3),
        (6, 2, 1, 2),
        (8, 17, 3, 0),
    ] {
        let settings = UnrolledEm::new(k, iterations, 1e-4)?;
        let x = normal(&[batch, width], 1);
        let fused = |x: &[Tensor]| Ok(parts(settings.fit(&x[0])?));
        let plain = |x: &[Tensor]| Ok(parts(reference::fit(&settings, &x[0])?));
        agree(&[x], (1e-10, 2e-2), fused, plain)?;
    }
    Ok(())
}

#[test]
fn gradients_hold() -> Result<()> {
    for (batch, width, k) in [(9, 4, 3), (5, 3, 7)] {
        let settings = UnrolledEm::new(k, 3, 1e-4)?;
        gradcheck(&[normal(&[batch, width], 2)], 1e-6, |x| {
            Ok(parts(settings.fit(&x[0])?))
        })?;
    }
    // A floor above some variances: their gradient is cut.
    let settings = UnrolledEm::new(3, 3, 0.8)?;
    gradcheck(&[normal(&[9, 4], 2)], 1e-6, |x| {
        Ok(parts(settings.fit(&x[0])?))
    })
}

#[test]
fn shifted_f32_data_gives_the_same_fit() -> Result<()> {
    let settings = UnrolledEm::new(3, 5, 1e-4)?;
    let grid = (normal(&[40, 6], 3) * 64.0)?.round()?;
    // Multiples of 2^-6, so that the shift itself is exact in f32.
    let x = (grid / 64.0)?.to_dtype(DType::F32)?;
    let plain = settings.fit(&x)?;
    let shifted = settings.fit(&(&x + 8192.0)?)?;
    assert!(distance(&plain.variances, &shifted.variances) < 1e-3);
    assert!(distance(&plain.responsibilities, &shifted.responsibilities) < 1e-2);
    Ok(())
}

#[test]
fn separated_groups_are_found() -> Result<()> {
    let x = normal(&[60, 2], 4);
    let centre: Vec<f64> = (0..60)
        .flat_map(|i| [f64::from(i / 30) * 10.0, 0.0])
        .collect();
    let x = (x + Tensor::from_vec(centre, (60, 2), &Device::Cpu)?)?;
    let fit = UnrolledEm::new(2, 30, 1e-4)?.fit(&x)?;
    let means = fit.means.to_vec2::<f64>()?;
    for (k, mean) in means.iter().enumerate() {
        assert!((mean[0] - 10.0 * k as f64).abs() < 0.8, "{means:?}");
    }
    for weight in fit.weights.to_vec1::<f64>()? {
        assert!((weight - 0.5).abs() < 1e-6);
    }
    Ok(())
}

proptest! {
    #[test]
    fn probabilities_sum_to_one(batch in 1usize..20, width in 1usize..6, k in 1usize..8, seed in 0u64..50) {
        let fit = UnrolledEm::new(k, 4, 1e-4).unwrap().fit(&normal(&[batch, width], seed)).unwrap();
        for row in fit.responsibilities.to_vec2::<f64>().unwrap() {
            prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let mass: f64 = fit.prototype_mass().unwrap().to_vec1::<f64>().unwrap().iter().sum();
        prop_assert!((mass - 1.0).abs() < 1e-12);
        for v in fit.variances.flatten_all().unwrap().to_vec1::<f64>().unwrap() {
            prop_assert!(v >= 1e-4);
        }
    }
}

#[test]
fn degenerate_data_is_an_error_or_finite() -> Result<()> {
    let settings = UnrolledEm::new(3, 5, 1e-4)?;
    let constant = Tensor::ones((6, 2), DType::F32, &Device::Cpu)?;
    for x in [constant.clone(), (&constant * 1e15)?, (&constant * 1e-30)?] {
        for part in parts(settings.fit(&x)?) {
            assert!(distance(&part, &part.zeros_like()?).is_finite());
        }
    }
    // Squares of 1e30 have no place in f32.
    let huge = (normal(&[6, 2], 9) * 1e30)?.to_dtype(DType::F32)?;
    let error = settings.fit(&huge).unwrap_err().to_string();
    assert!(error.contains("rescale"), "{error}");
    let tiny = (normal(&[6, 2], 9) * 1e-30)?.to_dtype(DType::F32)?;
    for part in parts(settings.fit(&tiny)?) {
        assert!(distance(&part, &part.zeros_like()?).is_finite());
    }
    let nan = Tensor::new(&[[0f32, 1.0], [f32::NAN, 2.0]], &Device::Cpu)?;
    let error = settings.fit(&nan).unwrap_err().to_string();
    assert!(
        error.contains("row 1, column 0") && error.contains("1 entries"),
        "{error}"
    );
    assert!(UnrolledEm::new(0, 1, 1e-4).is_err());
    assert!(
        UnrolledEm::new(1, 1, f64::NAN)
            .unwrap_err()
            .to_string()
            .contains("NaN")
    );
    assert!(
        settings
            .fit(&normal(&[4], 0))
            .unwrap_err()
            .to_string()
            .contains("(B, d)")
    );
    Ok(())
}
