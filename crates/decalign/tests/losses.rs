//! Gradients of the losses, and what the optimiser makes of gradients.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use decalign::config::RegressionLoss;
use decalign::core::gradcheck;
use decalign::core::random::Stream;
use decalign::objective::{
    Grouping, class_weights, cross_entropy, regression_loss, sign_loss, supervised_contrastive,
};
use decalign::optim::{Adam, AdamSettings, clip_gradient_norm};

const CPU: Device = Device::Cpu;

fn normal(shape: &[usize], stream: u64) -> Tensor {
    let n = shape.iter().product();
    Tensor::from_vec(Stream::new(11, stream).normal(n), shape, &CPU).unwrap()
}

fn check(x: &Tensor, loss: impl Fn(&Tensor) -> decalign::Result<Tensor>) {
    let plain = |error: decalign::Error| {
        decalign::core::Error::from(candle_core::Error::Msg(error.to_string()))
    };
    gradcheck(std::slice::from_ref(x), 1e-7, |x| {
        Ok(vec![loss(&x[0]).map_err(plain)?])
    })
    .unwrap();
}

#[test]
fn gradients_of_the_task_losses() {
    let (x, y) = (normal(&[7, 1], 0), normal(&[7, 1], 1));
    for kind in [
        RegressionLoss::Mae,
        RegressionLoss::Mse,
        RegressionLoss::SmoothL1 { beta: 0.5 },
        RegressionLoss::SmoothL1 { beta: 4.0 },
    ] {
        check(&x, |x| regression_loss(x, &y, kind));
    }
    let with_zero = Tensor::new(&[[1.5f64], [-2.0], [0.0]], &CPU).unwrap();
    check(&normal(&[3, 1], 2), |x| sign_loss(x, &with_zero));
    let classes = Tensor::new(&[2u32, 0, 2, 1], &CPU).unwrap();
    let logits = normal(&[4, 3], 3);
    check(&logits, |x| cross_entropy(x, &classes, None));
    check(&logits, |x| {
        cross_entropy(x, &classes, Some(&[0.5, 2.0, 1.0]))
    });
}

#[test]
fn gradients_of_the_contrastive_loss() {
    let x = normal(&[6, 5], 4);
    let classes = Tensor::new(&[0u32, 1, 0, 2, 1, 0], &CPU).unwrap();
    check(&x, |x| {
        supervised_contrastive(x, &classes, Grouping::Classes, 0.5)
    });
    let scores = Tensor::new(&[[0.4f64], [-0.2], [2.6], [9.0], [1.0], [3.1]], &CPU).unwrap();
    check(&x, |x| {
        supervised_contrastive(x, &scores, Grouping::RoundedScores, 0.5)
    });
    // Nobody has a positive.
    let apart = Tensor::new(&[0u32, 1, 2, 3, 4, 5], &CPU).unwrap();
    let loss = supervised_contrastive(&x, &apart, Grouping::Classes, 0.5).unwrap();
    assert_eq!(loss.to_scalar::<f64>().unwrap(), 0.0);
}

#[test]
fn known_values_and_bad_labels() {
    let logits = Tensor::new(&[[0f64, 0.0], [0.0, 0.0]], &CPU).unwrap();
    let classes = Tensor::new(&[0u32, 1], &CPU).unwrap();
    let loss = cross_entropy(&logits, &classes, None)
        .unwrap()
        .to_scalar::<f64>()
        .unwrap();
    assert!((loss - 2f64.ln()).abs() < 1e-15);
    let outside = Tensor::new(&[0u32, 2], &CPU).unwrap();
    let error = cross_entropy(&logits, &outside, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("label 2 is not one of 2 classes"), "{error}");
    assert_eq!(class_weights(3, &[0, 0, 0, 2]), [4.0 / 9.0, 0.0, 4.0 / 3.0]);
}

#[test]
fn adam_takes_the_steps_of_its_definition() {
    let settings = AdamSettings::new(0.1, 0.5);
    let start = [1.0f64, -2.0, 0.5];
    let x = Var::new(&start, &CPU).unwrap();
    let unreached = Var::new(&[3.0f64], &CPU).unwrap();
    let variables = vec![
        ("x".to_owned(), x.clone()),
        ("unreached".to_owned(), unreached.clone()),
    ];
    let mut adam = Adam::new(variables, settings);
    let (mut p, mut m, mut v) = (start, [0.0; 3], [0.0; 3]);
    for step in 1..=4 {
        let loss = x.as_tensor().sqr().unwrap().sum_all().unwrap();
        let norm = adam.step(&loss.backward().unwrap(), |_| 0.1).unwrap();
        let norm = norm.value().unwrap();
        let want = p.iter().map(|p| 4.0 * p * p).sum::<f64>().sqrt();
        assert!((norm - want).abs() < 1e-12);
        let factor = f64::min(0.5 / (want + 1e-6), 1.0);
        for i in 0..3 {
            let g = 2.0 * p[i] * factor + 0.1 * p[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (m, v) = (
                m[i] / (1.0 - 0.9f64.powi(step)),
                v[i] / (1.0 - 0.999f64.powi(step)),
            );
            p[i] -= 0.1 * m / (v.sqrt() + 1e-8);
        }
    }
    let got = x.to_vec1::<f64>().unwrap();
    assert!(
        got.iter().zip(p).all(|(g, p)| (g - p).abs() < 1e-12),
        "{got:?} {p:?}"
    );
    assert_eq!(unreached.to_vec1::<f64>().unwrap(), [3.0]);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let x = Var::new(&[1.0f32, 2.0], &CPU).unwrap();
    let mut adam = Adam::new(
        vec![("x".to_owned(), x.clone())],
        AdamSettings::new(0.1, 1.0),
    );
    let loss = (x.as_tensor() * f64::NAN).unwrap().sum_all().unwrap();
    assert!(
        adam.step(&loss.backward().unwrap(), |_| 0.1)
            .unwrap()
            .value()
            .unwrap()
            .is_nan()
    );
    assert_eq!(x.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    let large = Tensor::new(&[3f32, 4.0], &CPU).unwrap();
    let (factor, norm) = clip_gradient_norm([&large], 1.0).unwrap();
    assert!((norm - 5.0).abs() < 1e-6 && (factor - 0.2).abs() < 1e-6);
}
