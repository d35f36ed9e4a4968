//! CLUB: the paper's value, closed forms, gradients and where they must not go, training.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{golden_parts, is_zero, normal, numbers, value};
use decalign_core::nn::Parameters;
use decalign_core::{Result, agree, gradcheck};
use decalign_decouple::{Batch, Club, Decoupled, Objective, TimeAxis, club, reference};

#[test]
fn fused_equals_reference_and_gradients_hold() -> Result<()> {
    for (n, d) in [(5, 3), (2, 4), (7, 1)] {
        let inputs = [normal(&[n, d], 0), normal(&[n, d], 1), normal(&[n, d], 2)];
        let fused = |x: &[Tensor]| Ok(vec![club(&x[0], &x[1], &x[2])?]);
        let plain = |x: &[Tensor]| Ok(vec![reference::club(&x[0], &x[1], &x[2])?]);
        agree(&inputs, (1e-12, 2e-5), fused, plain)?;
        gradcheck(&inputs, 1e-7, fused)?;
    }
    Ok(())
}

#[test]
fn value_is_that_of_numpy() -> Result<()> {
    let (y, mean) = golden_parts();
    let log_variance = ((&y * &mean)? * 0.5)?;
    let got = value(&club(&y, &mean, &log_variance)?);
    // The paper's negatives include the sample itself.
    let want = -1.111_086_107_566_246_2 * 9.0 / 8.0;
    assert!((got - want).abs() < 1e-13, "{got} {want}");
    // Far from the origin the squares would cancel.
    let moved = club(&(&y + 1e6)?, &(&mean + 1e6)?, &log_variance)?;
    assert!((value(&moved) - want).abs() < 1e-8);
    Ok(())
}

#[test]
fn the_true_density_bounds_mutual_information() -> Result<()> {
    // y = r x + sqrt(1 - r^2) e: the bound is r^2 / (1 - r^2), at least -log(1 - r^2) / 2.
    let (n, r) = (40_000, 0.8f64);
    let x = normal(&[n, 1], 0);
    let spread = 1.0 - r * r;
    let mean = (&x * r)?;
    let y = (&mean + (normal(&[n, 1], 1) * spread.sqrt())?)?;
    let variance = Tensor::full(spread.ln(), (n, 1), &Device::Cpu)?;
    let got = value(&club(&y, &mean, &variance)?);
    let want = r * r / spread;
    assert!(
        (got - want).abs() < 5.0 * 2.0 * want / (n as f64).sqrt(),
        "{got} {want}"
    );
    assert!(got > -0.5 * spread.ln());
    // Of a density that is wrong it is negative, and is said to be.
    assert!(value(&club(&y, &mean.neg()?, &variance)?) < -1.0);
    // A density that ignores x bounds nothing: exactly no dependence but for rounding.
    let flat = value(&club(&y, &mean.zeros_like()?, &variance)?);
    assert!(flat.abs() < 1e-9, "{flat}");
    Ok(())
}

fn setup(names: &[&str]) -> Result<(Parameters, Club)> {
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let club = Club::new(&parameters, names, 3, 8)?;
    Ok((parameters, club))
}

#[test]
fn gradients_go_where_they_should() -> Result<()> {
    let (parameters, club) = setup(&["a"])?;
    let (s, c) = (
        Var::from_tensor(&normal(&[6, 3], 0))?,
        Var::from_tensor(&normal(&[6, 3], 1))?,
    );
    let bound = club.bound(0, &s, &c)?.backward()?;
    let misfit = club.misfit(0, &s, &c)?.backward()?;
    let parts = [Decoupled {
        unique: s.as_tensor().clone(),
        common: c.as_tensor().clone(),
    }];
    let loss = club.loss(&Batch::new(&parts)?)?;
    assert_eq!(value(&loss), value(&club.bound(0, &s, &c)?));
    let both = loss.backward()?;
    for x in [&s, &c] {
        assert!(misfit.get(x).is_none());
        assert_eq!(
            numbers(both.get(x).unwrap()),
            numbers(bound.get(x).unwrap())
        );
        assert!(!is_zero(&numbers(bound.get(x).unwrap())));
    }
    assert_eq!(parameters.named().len(), 8);
    for (name, var) in parameters.named() {
        assert!(bound.get(&var).is_none(), "{name}");
        let got = numbers(both.get(&var).unwrap());
        assert_eq!(got, numbers(misfit.get(&var).unwrap()), "{name}");
        assert!(!is_zero(&got), "{name}");
    }
    // As far as they go they are right.
    gradcheck(&[normal(&[6, 3], 0), normal(&[6, 3], 1)], 1e-7, |x| {
        Ok(vec![club.bound(0, &x[0], &x[1])?])
    })
}

#[test]
fn misfit_is_the_negative_log_likelihood() -> Result<()> {
    let (parameters, club) = setup(&["a"])?;
    let (s, c) = (normal(&[4, 3], 0), normal(&[4, 3], 1));
    let weights = |name: &str| {
        let all = parameters.named();
        let (_, var) = all
            .iter()
            .find(|(n, _)| n == &format!("club_a.{name}"))
            .unwrap();
        var.as_tensor().clone()
    };
    let run = |net: &str| -> Result<Vec<f64>> {
        let w = |part: &str| weights(&format!("{net}.{part}"));
        let hidden = s
            .matmul(&w("0.weight").t()?)?
            .broadcast_add(&w("0.bias"))?
            .relu()?;
        Ok(numbers(
            &hidden
                .matmul(&w("2.weight").t()?)?
                .broadcast_add(&w("2.bias"))?,
        ))
    };
    let (mean, free) = (run("mean")?, run("log_variance")?);
    let mut want = 0.0;
    for ((y, m), v) in numbers(&c).iter().zip(&mean).zip(&free) {
        let v = (6.0 * (v / 6.0).tanh()).exp();
        let density = (-(y - m).powi(2) / (2.0 * v)).exp() / (std::f64::consts::TAU * v).sqrt();
        want -= density.ln() / 12.0;
    }
    let got = value(&club.misfit(0, &s, &c)?);
    assert!((got - want).abs() < 1e-13, "{got} {want}");
    Ok(())
}

#[test]
fn one_optimiser_trains_both_sides() -> Result<()> {
    // Networks first, with features given: the bound finds dependence, and none where there is none.
    let fitted = |dependent: bool| -> Result<f64> {
        let (parameters, club) = setup(&["a"])?;
        let s = normal(&[200, 3], 0);
        let noise = normal(&[200, 3], 1);
        let c = if dependent {
            ((&s * 0.8)? + (noise * 0.6)?)?
        } else {
            noise
        };
        let parts = [Decoupled {
            unique: s,
            common: c,
        }];
        let batch = Batch::new(&parts)?;
        for _ in 0..150 {
            let gradients = club.loss(&batch)?.backward()?;
            for (_, var) in parameters.named() {
                var.set(&(var.as_tensor() - (gradients.get(&var).unwrap() * 0.5)?)?)?;
            }
        }
        Ok(value(&club.loss(&batch)?))
    };
    let (with, without) = (fitted(true)?, fitted(false)?);
    // Mutual information is 1.53, the true density's bound 5.3.
    assert!(with > 1.5 && without.abs() < 0.5, "{with} {without}");
    // Then the features: their steps make it small.
    let (parameters, club) = setup(&["a"])?;
    let s = normal(&[200, 3], 0);
    let mixed = ((&s * 0.8)? + (normal(&[200, 3], 1) * 0.6)?)?;
    let c = Var::from_tensor(&mixed)?;
    let mut values = Vec::new();
    for step in 0..400 {
        let parts = [Decoupled {
            unique: s.clone(),
            common: c.as_tensor().clone(),
        }];
        let loss = club.loss(&Batch::new(&parts)?)?;
        values.push(value(&loss));
        let gradients = loss.backward()?;
        for (_, var) in parameters.named() {
            var.set(&(var.as_tensor() - (gradients.get(&var).unwrap() * 0.5)?)?)?;
        }
        if step >= 150 {
            c.set(&(c.as_tensor() - (gradients.get(&c).unwrap() * 0.5)?)?)?;
        }
    }
    assert!(
        values[150] > 3.0 && values[399] < 0.5,
        "{} {}",
        values[150],
        values[399]
    );
    Ok(())
}

#[test]
fn rows_and_wrong_input() -> Result<()> {
    let (_, club_of) = setup(&["a", "b"])?;
    let part = |shape: &[usize]| Decoupled {
        unique: normal(shape, 0),
        common: normal(shape, 1),
    };
    let parts = [part(&[5, 2, 3]), part(&[5, 4, 3])];
    let batch = Batch::new(&parts)?;
    let steps = club_of.clone().time_axis(TimeAxis::Steps).loss(&batch)?;
    assert!(value(&steps) != value(&club_of.loss(&batch)?));
    let says = |text: String, words: &str| assert!(text.contains(words), "{text}");
    let wrong = club_of
        .clone()
        .time_axis(TimeAxis::Flatten)
        .loss(&batch)
        .unwrap_err();
    says(wrong.to_string(), "(n, 3)");
    let one = [part(&[5, 3])];
    says(
        club_of.loss(&Batch::new(&one)?).unwrap_err().to_string(),
        "one a modality",
    );
    let alone = [part(&[1, 3]), part(&[1, 3])];
    says(
        club_of.loss(&Batch::new(&alone)?).unwrap_err().to_string(),
        "larger batches",
    );
    let x = normal(&[5, 3], 0);
    says(
        club(&x, &x, &normal(&[5, 2], 1)).unwrap_err().to_string(),
        "[5, 2]",
    );
    says(
        club(&x, &x, &(&x * 1e5)?).unwrap_err().to_string(),
        "must be finite",
    );
    says(club_of.bound(2, &x, &x).unwrap_err().to_string(), "below 2");
    says(
        club_of
            .misfit(0, &x, &x.to_dtype(DType::F32)?)
            .unwrap_err()
            .to_string(),
        "F32",
    );
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    assert!(Club::new(&parameters, &["a", "a"], 3, 8).is_err());
    assert!(Club::new(&parameters, &["a"], 3, 0).is_err());
    Ok(())
}
