//! The encoders and the loss: values by hand, fused against reference, gradients.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::Parameters;
use decalign_core::{Result, agree, gradcheck};
use decalign_decouple::{Decoupler, cosine_squared, reference};
use decalign_testkit::{largest_difference as distance, normal};
use proptest::prelude::*;

#[test]
fn fused_equals_reference() -> Result<()> {
    let inputs = [normal(&[3, 4, 5], 0), normal(&[3, 4, 5], 1)];
    let fused = |x: &[Tensor]| Ok(vec![cosine_squared(&x[0], &x[1])?]);
    let plain = |x: &[Tensor]| Ok(vec![reference::cosine_squared(&x[0], &x[1])?]);
    agree(&inputs, (1e-14, 1e-6), fused, plain)
}

#[test]
fn gradients_hold() -> Result<()> {
    let inputs = [normal(&[3, 4, 5], 0), normal(&[3, 4, 5], 1)];
    gradcheck(&inputs, 1e-8, |x| Ok(vec![cosine_squared(&x[0], &x[1])?]))?;
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let decoupler = Decoupler::new(&parameters, &["a", "b"], 5)?;
    gradcheck(&inputs[..1], 1e-8, |x| {
        let parts = decoupler.forward(1, &x[0])?;
        Ok(vec![parts.unique, parts.common])
    })
}

#[test]
fn known_angles() -> Result<()> {
    let of = |s: &[f64], c: &[f64]| -> Result<f64> {
        let row = |x: &[f64]| Tensor::from_slice(x, (1, x.len()), &Device::Cpu);
        Ok(cosine_squared(&row(s)?, &row(c)?)?.to_scalar::<f64>()?)
    };
    assert!((of(&[1.0, 0.0], &[1.0, 1.0])? - 0.5).abs() < 1e-15);
    assert_eq!(of(&[1.0, 0.0], &[0.0, 3.0])?, 0.0);
    assert!((of(&[2.0, -4.0], &[-1.0, 2.0])? - 1.0).abs() < 1e-15);
    // A part that is zero has no direction: 0, and a finite gradient.
    let zero = Var::zeros((2, 3), DType::F64, &Device::Cpu)?;
    let loss = cosine_squared(&zero, &normal(&[2, 3], 1))?;
    assert_eq!(loss.to_scalar::<f64>()?, 0.0);
    let gradient = loss
        .backward()?
        .get(&zero)
        .unwrap()
        .flatten_all()?
        .to_vec1::<f64>()?;
    assert!(gradient.iter().all(|g| g.is_finite()));
    Ok(())
}

proptest! {
    #[test]
    fn scale_does_not_matter(a in 1e-3f64..1e3, b in -1e3f64..-1e-3, seed in 0u64..100) {
        let (s, c) = (normal(&[4, 6], seed), normal(&[4, 6], seed + 1000));
        let plain = cosine_squared(&s, &c).unwrap();
        let scaled = cosine_squared(&(s * a).unwrap(), &(c * b).unwrap()).unwrap();
        prop_assert!(distance(&plain, &scaled) < 1e-13);
        prop_assert!((0.0..=1.0).contains(&plain.to_scalar::<f64>().unwrap()));
    }
}

#[test]
fn wrong_input_is_named() {
    let error = cosine_squared(&normal(&[2, 3], 0), &normal(&[2, 4], 1)).unwrap_err();
    assert!(error.to_string().contains("[2, 4]"), "{error}");
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let decoupler = Decoupler::new(&parameters, &["a"], 3).unwrap();
    let error = decoupler.forward(1, &normal(&[2, 2, 3], 0)).unwrap_err();
    assert!(error.to_string().contains("below 1"), "{error}");
    assert!(Decoupler::new(&parameters, &["a"], 0).is_err());
}
