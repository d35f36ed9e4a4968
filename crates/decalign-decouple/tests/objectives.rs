//! Objectives: what is compared, weighted sums, encoders, reconstruction.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{distance, normal, numbers, value};
use decalign_core::nn::Parameters;
use decalign_core::{Result, agree, gradcheck};
use decalign_decouple::{
    BandwidthRule, Batch, CentralMomentDiscrepancy, CosineSquared, CrossCorrelation, Decoupled,
    Decoupler, Hsic, HsicEstimator, Measure, Objective, Objectives, Orthogonality, PairwiseLoss,
    PartPairs, Reconstruction, TimeAxis, TripletMargin, cosine_squared, reconstruction_error,
    reference,
};

fn parts(shapes: &[&[usize]]) -> Vec<Decoupled> {
    let each = shapes.iter().enumerate();
    each.map(|(i, shape)| Decoupled {
        unique: normal(shape, 2 * i as u64),
        common: normal(shape, 2 * i as u64 + 1),
    })
    .collect()
}

#[test]
fn the_models_loss_bit_for_bit() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let shapes: [&[usize]; 3] = [&[4, 5, 6], &[4, 9, 6], &[4, 1, 6]];
        let mut parts = parts(&shapes);
        for part in &mut parts {
            part.unique = part.unique.to_dtype(dtype)?;
            part.common = part.common.to_dtype(dtype)?;
        }
        let angles = parts.iter().map(|p| cosine_squared(&p.unique, &p.common));
        let angles = angles.collect::<Result<Vec<_>>>()?;
        let want = Tensor::stack(&angles, 0)?.mean(0)?;
        let loss = PairwiseLoss::new(CosineSquared, &[PartPairs::UniqueCommon])?
            .time_axis(TimeAxis::Flatten);
        assert_eq!(value(&loss.loss(&Batch::new(&parts)?)?), value(&want));
    }
    Ok(())
}

#[test]
fn pairs_and_rows() -> Result<()> {
    let parts = parts(&[&[4, 5, 6], &[4, 9, 6], &[4, 2, 6]]);
    let batch = Batch::new(&parts)?;
    let mean = |x: &Tensor| x.mean(1);
    let between = |a: &Tensor, b: &Tensor| -> Result<f64> {
        Ok(value(&Orthogonality.between(&mean(a)?, &mean(b)?)?))
    };
    let (mut own, mut unique, mut common) = (0.0, 0.0, 0.0);
    for (i, p) in parts.iter().enumerate() {
        own += between(&p.unique, &p.common)?;
        for q in &parts[..i] {
            unique += between(&p.unique, &q.unique)?;
            common += between(&p.common, &q.common)?;
        }
    }
    let of = |pairs: &[PartPairs]| -> Result<f64> {
        Ok(value(
            &PairwiseLoss::new(Orthogonality, pairs)?.loss(&batch)?,
        ))
    };
    assert!((of(&[PartPairs::UniqueCommon])? - own / 3.0).abs() < 1e-14);
    assert!((of(&[PartPairs::UniqueUnique])? - unique / 3.0).abs() < 1e-14);
    assert!((of(&[PartPairs::CommonCommon])? - common / 3.0).abs() < 1e-14);
    let all = of(&[PartPairs::UniqueCommon, PartPairs::UniqueUnique])?;
    assert!((all - (own + unique) / 6.0).abs() < 1e-14);
    let x = normal(&[2, 3, 4], 0);
    assert_eq!(TimeAxis::Mean.apply(&x)?.dims(), [2, 4]);
    assert_eq!(TimeAxis::Flatten.apply(&x)?.dims(), [2, 12]);
    assert_eq!(TimeAxis::Steps.apply(&x)?.dims(), [6, 4]);
    // Steps of sequences of different lengths have moments to compare.
    let moments = PairwiseLoss::new(
        CentralMomentDiscrepancy::new(3, 1.0)?,
        &[PartPairs::CommonCommon],
    )?;
    assert!(value(&moments.time_axis(TimeAxis::Steps).loss(&batch)?) > 0.0);
    // One modality, or as many as one likes.
    assert!(
        PairwiseLoss::new(CosineSquared, &[PartPairs::UniqueCommon])?
            .loss(&Batch::new(&parts[..1])?)
            .is_ok()
    );
    Ok(())
}

#[test]
fn gradients_through_rows() -> Result<()> {
    let inputs: Vec<Tensor> = (0..4).map(|i| normal(&[4, 2, 3], i)).collect();
    for rows in [TimeAxis::Mean, TimeAxis::Flatten, TimeAxis::Steps] {
        let hsic = Hsic::new(HsicEstimator::Normalised, BandwidthRule::Fixed(1.5))?;
        let all = Objectives::new()
            .with(
                0.7,
                PairwiseLoss::new(CosineSquared, &[PartPairs::UniqueCommon])?.time_axis(rows),
            )?
            .with(
                2.0,
                PairwiseLoss::new(hsic, &[PartPairs::UniqueUnique])?.time_axis(rows),
            )?
            .with(
                0.3,
                PairwiseLoss::new(CrossCorrelation, &[PartPairs::UniqueCommon])?.time_axis(rows),
            )?
            .with(
                0.5,
                PairwiseLoss::new(
                    CentralMomentDiscrepancy::new(5, 1.0)?,
                    &[PartPairs::CommonCommon],
                )?
                .time_axis(rows),
            )?;
        gradcheck(&inputs, 1e-7, |x| {
            let part = |i: usize| Decoupled {
                unique: x[i].clone(),
                common: x[i + 1].clone(),
            };
            Ok(vec![all.loss(&Batch::new(&[part(0), part(2)])?)?])
        })?;
    }
    Ok(())
}

#[test]
fn sums() -> Result<()> {
    let parts = parts(&[&[6, 3], &[6, 3]]);
    let batch = Batch::new(&parts)?;
    let cosine = || PairwiseLoss::new(CosineSquared, &[PartPairs::UniqueCommon]);
    let apart = || PairwiseLoss::new(Orthogonality, &[PartPairs::UniqueUnique]);
    let sum = Objectives::new()
        .with(0.25, cosine()?)?
        .with(0.0, apart()?.time_axis(TimeAxis::Flatten))?
        .with(4.0, apart()?)?;
    let losses = sum.evaluate(&batch)?;
    let names: Vec<&str> = losses.terms.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["cosine_squared", "orthogonality"]);
    let want = 0.25 * value(&losses.terms[0].1) + 4.0 * value(&losses.terms[1].1);
    assert!((value(&losses.total) - want).abs() < 1e-15);
    // A sum is an objective.
    let nested = Objectives::new().with(0.5, sum)?.with(1.0, cosine()?)?;
    let want = 0.5 * want + value(&losses.terms[0].1);
    assert!((value(&nested.loss(&batch)?) - want).abs() < 1e-15);
    assert_eq!(value(&Objectives::new().loss(&batch)?), 0.0);
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let error = Objectives::new().with(weight, cosine()?).unwrap_err();
        assert!(
            error.to_string().contains("weight of cosine_squared"),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn encoders_of_any_number_of_modalities() -> Result<()> {
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let names = ["a", "b", "c", "d", "e"];
    let decoupler = Decoupler::new(&parameters, &names, 3)?;
    assert_eq!(decoupler.modalities(), 5);
    let x: Vec<Tensor> = (0..5).map(|i| normal(&[4, i + 1, 3], i as u64)).collect();
    let parts = decoupler.forward_all(&x)?;
    for (i, (x, part)) in x.iter().zip(&parts).enumerate() {
        let one = decoupler.forward(i, x)?;
        assert_eq!(distance(&one.unique, &part.unique), 0.0);
        assert_eq!(distance(&one.common, &part.common), 0.0);
    }
    // Features without time are sequences of one step.
    let flat = decoupler.forward(0, &x[0].squeeze(1)?)?;
    assert_eq!(distance(&flat.unique, &parts[0].unique.squeeze(1)?), 0.0);
    gradcheck(&[x[0].squeeze(1)?], 1e-8, |x| {
        let parts = decoupler.forward(2, &x[0])?;
        Ok(vec![parts.unique, parts.common])
    })?;
    let error = decoupler.forward_all(&x[..2]).unwrap_err().to_string();
    assert!(error.contains("there must be 5"), "{error}");
    let error = Decoupler::new(&parameters, &["a", "b", "a"], 3)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"a\"") && error.contains("rename"),
        "{error}"
    );
    Ok(())
}

#[test]
fn reconstruction() -> Result<()> {
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let decoder = Reconstruction::new(&parameters, &["a", "b"], 3)?;
    let parts = parts(&[&[2, 2, 3], &[2, 4, 3]]);
    let x = [normal(&[2, 2, 3], 10), normal(&[2, 4, 3], 11)];
    let got = value(&decoder.loss(&Batch::new(&parts)?.with_features(&x)?)?);
    let all = parameters.named();
    let mut want = 0.0;
    for (i, (part, x)) in parts.iter().zip(&x).enumerate() {
        // bias, weight: the names are sorted.
        let (bias, weight) = (numbers(&all[2 * i].1), numbers(&all[2 * i + 1].1));
        let whole: Vec<f64> = numbers(&(&part.unique + &part.common)?);
        let mut sum = 0.0;
        for (row, x) in whole.chunks(3).zip(numbers(x).chunks(3)) {
            for k in 0..3 {
                let y: f64 = (0..3).map(|j| weight[3 * k + j] * row[j]).sum();
                sum += (y + bias[k] - x[k]).powi(2);
            }
        }
        want += sum / whole.len() as f64 / 2.0;
    }
    assert!((got - want).abs() < 1e-14, "{got} {want}");
    gradcheck(
        &[parts[0].unique.clone(), parts[0].common.clone()],
        1e-7,
        |y| {
            let parts = Decoupled {
                unique: y[0].clone(),
                common: y[1].clone(),
            };
            Ok(vec![reconstruction_error(
                &x[0],
                &decoder.forward(0, &parts)?,
            )?])
        },
    )?;
    // The target stands still.
    let target = Var::from_tensor(&x[0])?;
    let made = Var::from_tensor(&parts[0].unique)?;
    let gradients = reconstruction_error(&target, &made)?.backward()?;
    assert!(gradients.get(&target).is_none() && gradients.get(&made).is_some());
    let says = |error: decalign_decouple::Error, words: &str| {
        assert!(error.to_string().contains(words), "{error}");
    };
    says(
        decoder.loss(&Batch::new(&parts)?).unwrap_err(),
        "with_features",
    );
    says(reconstruction_error(&x[0], &x[1]).unwrap_err(), "[2, 4, 3]");
    says(decoder.forward(2, &parts[0]).unwrap_err(), "below 2");
    Ok(())
}

#[test]
fn triplets() -> Result<()> {
    let labels = [0, 2, 0, 1, 1, 2, 0];
    let x: Vec<Tensor> = (0..3).map(|i| normal(&[7, 4], i)).collect();
    let with = |x: &[Tensor], labels: &[i64], margin: f64| -> Result<Tensor> {
        let parts = x.iter().map(|x| Decoupled {
            unique: x.zeros_like().unwrap(),
            common: x.clone(),
        });
        let parts: Vec<Decoupled> = parts.collect();
        TripletMargin::new(margin)?.loss(&Batch::new(&parts)?.with_labels(labels)?)
    };
    for margin in [0.0, 0.2, 1.0, 2.0] {
        let fused = |x: &[Tensor]| Ok(vec![with(x, &labels, margin)?]);
        let plain = |x: &[Tensor]| Ok(vec![reference::triplet_margin(x, &labels, margin)?]);
        agree(&x, (1e-12, 1e-5), fused, plain)?;
        gradcheck(&x, 1e-7, fused)?;
        agree(&x[1..], (1e-12, 1e-5), fused, plain)?;
    }
    // By hand: sample 0 is at (1, 0) in both modalities, sample 1 at (0, 1) and (-1, 0).
    let rows = |rows: [[f64; 2]; 2]| Tensor::new(&rows, &Device::Cpu);
    let pair = [
        rows([[1.0, 0.0], [0.0, 1.0]])?,
        rows([[1.0, 0.0], [-1.0, 0.0]])?,
    ];
    // Anchors see (positive, negative) cosines (1, 0), (0, 0), (1, -1), (0, -1).
    assert_eq!(value(&with(&pair, &[0, 1], 0.5)?), 0.125);
    // One class only: nothing to compare.
    assert_eq!(value(&with(&x, &[1; 7], 0.5)?), 0.0);
    // TimeAxis of zeros have no direction.
    let flat = Var::from_tensor(&x[0].zeros_like()?)?;
    let loss = with(&[flat.as_tensor().clone(), x[1].clone()], &labels, 0.5)?;
    assert!(
        numbers(loss.backward()?.get(&flat).unwrap())
            .iter()
            .all(|v| *v == 0.0)
    );
    let text = |x: Result<Tensor>| x.unwrap_err().to_string();
    assert!(text(with(&x, &labels[1..], 0.5)).contains("number of labels"));
    assert!(text(with(&x[..1], &labels, 0.5)).contains("number of modalities"));
    let unlike = [x[0].clone(), normal(&[7, 5], 0)];
    assert!(text(with(&unlike, &labels, 0.5)).contains("modality 1"));
    let parts = parts(&[&[4, 3], &[4, 3]]);
    assert!(text(TripletMargin::new(0.5)?.loss(&Batch::new(&parts)?)).contains("with_labels"));
    assert!(TripletMargin::new(-0.1).is_err() && TripletMargin::new(f64::NAN).is_err());
    Ok(())
}

#[test]
fn wrong_batches_are_named() -> Result<()> {
    let says = |parts: &[Decoupled], words: &str| {
        let text = Batch::new(parts).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    says(&[], "number of modalities");
    says(&parts(&[&[4, 3], &[5, 3]]), "unique part of modality 1");
    says(&parts(&[&[4]]), "(n, t, d)");
    says(&parts(&[&[0, 3]]), "not empty");
    let mut wrong = parts(&[&[4, 3], &[4, 3]]);
    wrong[1].common = wrong[1].common.narrow(1, 0, 2)?;
    says(&wrong, "common part of modality 1");
    let mut wrong = parts(&[&[4, 3], &[4, 3]]);
    wrong[1].unique = wrong[1].unique.to_dtype(DType::F32)?;
    says(&wrong, "dtype F64");
    let mut wrong = parts(&[&[4, 3]]);
    wrong[0].common = (wrong[0].common.clone() / 0.0)?;
    says(&wrong, "common part of modality 0 at row 0, column 0");
    let good = parts(&[&[4, 3], &[4, 2]]);
    let text = |error: decalign_decouple::Error| error.to_string();
    let features = [normal(&[4, 3], 0)];
    let error = text(Batch::new(&good)?.with_features(&features).unwrap_err());
    assert!(error.contains("number of features"), "{error}");
    let features = [normal(&[4, 3], 0), normal(&[4, 3], 0)];
    let error = text(Batch::new(&good)?.with_features(&features).unwrap_err());
    assert!(error.contains("features of modality 1"), "{error}");
    // Widths that a measure cannot compare, and pairs that are not there.
    let moments = PairwiseLoss::new(
        CentralMomentDiscrepancy::new(2, 1.0)?,
        &[PartPairs::CommonCommon],
    )?;
    let error = text(moments.loss(&Batch::new(&good)?).unwrap_err());
    assert!(error.contains("columns"), "{error}");
    let error = text(moments.loss(&Batch::new(&good[..1])?).unwrap_err());
    assert!(error.contains("needs two at least"), "{error}");
    assert!(PairwiseLoss::new(CosineSquared, &[]).is_err());
    let twice = PairwiseLoss::new(
        CosineSquared,
        &[PartPairs::UniqueCommon, PartPairs::UniqueCommon],
    );
    assert!(text(twice.unwrap_err()).contains("once"));
    Ok(())
}
