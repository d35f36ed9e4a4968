//! The measures: values of NumPy, fused against reference, gradients, traps, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{distance, golden_parts, is_zero, normal, numbers, value, value_and_gradients};
use decalign_core::{Result, agree, gradcheck};
use decalign_decouple::{
    BandwidthRule, Barlow, CentralMomentDiscrepancy, CosineMargin, CosineSign, CosineSquared,
    CrossCorrelation, Hsic, HsicEstimator, Measure, Orthogonality,
};
use proptest::prelude::*;

const ESTIMATORS: [HsicEstimator; 3] = [
    HsicEstimator::Biased,
    HsicEstimator::Unbiased,
    HsicEstimator::Normalised,
];

fn hsic(estimator: HsicEstimator, length: f64) -> Hsic {
    Hsic::new(estimator, BandwidthRule::Fixed(length)).unwrap()
}

fn margin(margin: f64, sign: CosineSign) -> CosineMargin {
    CosineMargin::new(margin, sign).unwrap()
}

type Case = Box<dyn Measure>;

/// Measures of parts of one width.
fn narrow() -> Vec<Case> {
    let mut all: Vec<Case> = vec![Box::new(CosineSquared)];
    for (m, sign) in [
        (0.0, CosineSign::Both),
        (0.3, CosineSign::Both),
        (0.1, CosineSign::Positive),
        (-0.5, CosineSign::Positive),
    ] {
        all.push(Box::new(margin(m, sign)));
    }
    for lambda in [0.0, 0.005, 2.0] {
        all.push(Box::new(Barlow::new(lambda).unwrap()));
    }
    for (order, span) in [(1, 1.0), (2, 3.0), (5, 1.0), (6, 2.0)] {
        let moments = CentralMomentDiscrepancy::new(order, span).unwrap();
        all.push(Box::new(moments));
    }
    all
}

/// Measures of parts of any widths.
fn wide() -> Vec<Case> {
    let mut all: Vec<Case> = vec![Box::new(Orthogonality), Box::new(CrossCorrelation)];
    for estimator in ESTIMATORS {
        all.push(Box::new(hsic(estimator, 1.7)));
    }
    all
}

#[test]
fn fused_equals_reference_and_gradients_hold() -> Result<()> {
    let check = |case: &Case, a: Tensor, b: Tensor| -> Result<()> {
        let fused = |x: &[Tensor]| Ok(vec![case.between(&x[0], &x[1])?]);
        let plain = |x: &[Tensor]| Ok(vec![case.reference(&x[0], &x[1])?]);
        agree(&[a.clone(), b.clone()], (1e-12, 2e-5), fused, plain)?;
        gradcheck(&[a, b], 1e-7, fused)
    };
    for (i, case) in narrow().iter().enumerate() {
        check(case, normal(&[5, 3], 0), normal(&[5, 3], 1)).unwrap_or_else(|e| panic!("{i}: {e}"));
        check(case, normal(&[3, 1], 2), normal(&[3, 1], 3)).unwrap_or_else(|e| panic!("{i}: {e}"));
    }
    for (i, case) in wide().iter().enumerate() {
        check(case, normal(&[6, 3], 0), normal(&[6, 5], 1)).unwrap_or_else(|e| panic!("{i}: {e}"));
        check(case, normal(&[4, 7], 2), normal(&[4, 1], 3)).unwrap_or_else(|e| panic!("{i}: {e}"));
    }
    // Parts of different sizes have moments too.
    let moments = CentralMomentDiscrepancy::new(4, 1.0)?;
    gradcheck(&[normal(&[4, 2], 0), normal(&[7, 2], 1)], 1e-7, |x| {
        Ok(vec![moments.between(&x[0], &x[1])?])
    })
}

#[test]
fn values_are_those_of_numpy() -> Result<()> {
    let (a, b) = golden_parts();
    let (n, d) = (9.0, 3.0);
    let median = Hsic::new(HsicEstimator::Biased, BandwidthRule::Median)?;
    let cases: Vec<(Box<dyn Measure>, usize, f64)> = vec![
        (Box::new(CosineSquared), 9, 0.190_101_420_104_947_24),
        (
            Box::new(margin(0.3, CosineSign::Both)),
            9,
            0.135_175_860_141_099_34,
        ),
        (
            Box::new(margin(0.3, CosineSign::Positive)),
            9,
            0.047_626_144_335_579_11,
        ),
        // The mean over d^2 cells of squared sums over n rows.
        (
            Box::new(Orthogonality),
            9,
            0.146_685_044_793_96 * d * d / (n * n),
        ),
        (
            Box::new(CentralMomentDiscrepancy::new(5, 1.0)?),
            9,
            4.192_120_053_552_74,
        ),
        (Box::new(CrossCorrelation), 9, 0.018_623_258_811_464_916),
        (
            Box::new(Barlow::new(0.005)?),
            9,
            3.306_613_942_938_137_4 / d,
        ),
        (
            Box::new(hsic(HsicEstimator::Biased, 0.8)),
            9,
            0.048_753_627_583_823_12,
        ),
        (
            Box::new(hsic(HsicEstimator::Unbiased, 0.8)),
            9,
            -0.026_995_641_162_839_41,
        ),
        (
            Box::new(hsic(HsicEstimator::Normalised, 0.8)),
            9,
            0.417_041_253_646_882_16,
        ),
        (Box::new(median), 7, 0.008_342_144_022_416_958),
    ];
    for (measure, rows, want) in cases {
        let (a, b) = (a.narrow(0, 0, rows)?, b.narrow(0, 0, rows)?);
        let got = value(&measure.between(&a, &b)?);
        assert!(
            (got - want).abs() < 1e-13 * want.abs().max(1.0),
            "{measure:?}: {got} {want}"
        );
        let single = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
        let rough = value(&measure.between(&single(&a), &single(&b))?);
        assert!(
            (rough - want).abs() < 1e-6 * want.abs().max(1.0),
            "{measure:?}: {rough} {want}"
        );
    }
    Ok(())
}

#[test]
fn a_repeated_batch_is_worth_the_same() -> Result<()> {
    // The unbiased criterion alone sees the copies: its pairs must not be of one sample.
    let (a, b) = (normal(&[6, 3], 0), normal(&[6, 3], 1));
    let twice = |x: &Tensor| Tensor::cat(&[x, x, x], 0);
    for measure in narrow().iter().chain(&wide()) {
        if format!("{measure:?}").contains("Unbiased") {
            continue;
        }
        let (one, three) = (
            value(&measure.between(&a, &b)?),
            value(&measure.between(&twice(&a)?, &twice(&b)?)?),
        );
        assert!(
            (one - three).abs() < 1e-12 * one.abs().max(1.0),
            "{measure:?}: {one} {three}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn scale_and_shift_do_not_matter(scale in 1e-3f64..1e3, shift in -9f64..9.0, seed in 0u64..100) {
        let (a, b) = (normal(&[9, 4], seed), normal(&[9, 4], seed + 1000));
        let b = (b + (&a * 0.4).unwrap()).unwrap();
        let moved = ((&a * scale).unwrap() + shift).unwrap();
        let measures: [Box<dyn Measure>; 4] = [
            Box::new(Orthogonality),
            Box::new(CrossCorrelation),
            Box::new(Barlow::new(0.01).unwrap()),
            Box::new(Hsic::new(HsicEstimator::Normalised, BandwidthRule::Median).unwrap()),
        ];
        for measure in &measures {
            let (plain, other) = (measure.between(&a, &b).unwrap(), measure.between(&moved, &b).unwrap());
            prop_assert!(distance(&plain, &other) < 1e-9, "{measure:?}");
            prop_assert!((0.0..=2.0).contains(&value(&plain)), "{measure:?}");
            // What does not see the scale has no gradient along it.
            let (_, [da, _]) = value_and_gradients(&a, &b, |a, b| measure.between(a, b));
            let mean = a.broadcast_sub(&a.mean_keepdim(0).unwrap()).unwrap();
            let along: f64 = da.iter().zip(numbers(&mean)).map(|(g, x)| g * x).sum();
            // Of the kernel the length is held constant, so its gradient has such a part.
            prop_assert!(measure.name() == "hsic" || along.abs() < 1e-12, "{measure:?}: {along}");
        }
    }

    #[test]
    fn ranges(seed in 0u64..100, n in 2usize..12) {
        let (a, b) = (normal(&[n, 3], seed), normal(&[n, 4], seed + 1000));
        for measure in wide() {
            if !format!("{measure:?}").contains("Unbiased") {
                let got = value(&measure.between(&a, &b).unwrap());
                prop_assert!((-1e-15..=1.0 + 1e-12).contains(&got), "{measure:?}: {got}");
            }
        }
        for form in [HsicEstimator::Normalised, HsicEstimator::Biased] {
            let own = value(&hsic(form, 1.0).between(&a, &a).unwrap());
            prop_assert!(own > 0.0 && (form == HsicEstimator::Biased || (own - 1.0).abs() < 1e-12));
        }
    }
}

#[test]
fn equal_parts() -> Result<()> {
    let a = normal(&[7, 3], 0);
    // The root of 0 has an infinite slope: of equal moments the gradient is 0.
    let moments = CentralMomentDiscrepancy::new(5, 1.0)?;
    let (loss, [da, db]) = value_and_gradients(&a, &a.copy()?, |a, b| moments.between(a, b));
    assert!(loss == 0.0 && is_zero(&da) && is_zero(&db));
    let (loss, [da, _]) = value_and_gradients(&a, &a.copy()?, |a, b| moments.reference(a, b));
    assert!(loss == 0.0 && is_zero(&da));
    // Columns alone are fully correlated with themselves, for every n.
    for n in [2, 3, 50] {
        let a = normal(&[n, 1], 1);
        assert!(value(&Barlow::new(0.5)?.between(&a, &a)?) < 1e-28);
        assert!((value(&CrossCorrelation.between(&a, &a)?) - 1.0).abs() < 1e-14);
    }
    Ok(())
}

#[test]
fn constant_parts_have_no_direction() -> Result<()> {
    // 0.3 is no binary number: a mean that rounds would leave a direction behind.
    for dtype in [DType::F32, DType::F64] {
        let same = (Tensor::ones((7, 3), dtype, &Device::Cpu)? * 0.3)?;
        let b = normal(&[7, 3], 1).to_dtype(dtype)?;
        let flat = [
            Box::new(Orthogonality) as Box<dyn Measure>,
            Box::new(CrossCorrelation),
            Box::new(hsic(HsicEstimator::Biased, 0.7)),
            Box::new(hsic(HsicEstimator::Unbiased, 0.7)),
            Box::new(hsic(HsicEstimator::Normalised, 0.7)),
            Box::new(Hsic::new(HsicEstimator::Normalised, BandwidthRule::Median)?),
        ];
        for measure in flat {
            for (a, b) in [(&same, &b), (&b, &same), (&same, &same)] {
                let (loss, [da, db]) = value_and_gradients(a, b, |a, b| measure.between(a, b));
                assert!(loss.abs() < 1e-16, "{measure:?}: {loss}");
                let largest = da.iter().chain(&db).fold(0.0f64, |m, v| m.max(v.abs()));
                assert!(largest < 1e-15, "{measure:?}: {largest}");
            }
        }
        // A constant column does not disturb the others.
        let one = Tensor::cat(&[&b, &same.narrow(1, 0, 1)?], 1)?;
        let (whole, less) = (
            value(&CrossCorrelation.between(&one, &b)?),
            value(&CrossCorrelation.between(&b, &b)?),
        );
        assert!((whole - less * 0.75).abs() < 1e-6);
        let (loss, [da, _]) =
            value_and_gradients(&one, &one.copy()?, |a, b| Barlow::new(0.005)?.between(a, b));
        assert!(loss.is_finite() && da.iter().all(|v| v.is_finite()));
    }
    Ok(())
}

#[test]
fn rows_of_zeros_have_no_direction() -> Result<()> {
    let b = normal(&[2, 3], 1);
    let a = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;
    for measure in [
        margin(0.0, CosineSign::Both),
        margin(0.0, CosineSign::Positive),
        margin(-0.5, CosineSign::Positive),
    ] {
        let (loss, [da, db]) = value_and_gradients(&a, &b, |a, b| measure.between(a, b));
        let lowest = if measure == margin(-0.5, CosineSign::Positive) {
            0.5
        } else {
            0.0
        };
        assert!(
            loss == lowest && is_zero(&da) && is_zero(&db),
            "{measure:?}"
        );
    }
    // At the margin: exact zeros, from either side.
    let a = Tensor::new(&[[1f64, 0.0], [0.0, 2.0]], &Device::Cpu)?;
    let b = Tensor::new(&[[0f64, 1.0], [-3.0, 0.0]], &Device::Cpu)?;
    for sign in [CosineSign::Both, CosineSign::Positive] {
        let (loss, [da, db]) = value_and_gradients(&a, &b, |a, b| margin(0.0, sign).between(a, b));
        assert!(loss == 0.0 && is_zero(&da) && is_zero(&db));
    }
    Ok(())
}

#[test]
fn scales_at_the_ends_of_the_type() -> Result<()> {
    let (a, b) = (normal(&[6, 3], 0), normal(&[6, 3], 1));
    let all = || narrow().into_iter().chain(wide());
    for factor in [1e-30, 1e-12, 1e12, 1e30] {
        let single = |x: &Tensor| (x * factor).unwrap().to_dtype(DType::F32).unwrap();
        for measure in all() {
            let a = Var::from_tensor(&single(&a))?;
            let loss = measure.between(&a, &single(&b));
            // Finite, or an error that says what to do.
            match loss {
                Ok(loss) => {
                    assert!(value(&loss).is_finite(), "{measure:?} {factor}");
                    let gradient = numbers(loss.backward()?.get(&a).unwrap());
                    let finite = gradient.iter().all(|v| v.is_finite());
                    assert!(finite, "{measure:?} {factor}");
                }
                Err(error) => assert!(error.to_string().contains("scale the inputs down")),
            }
        }
    }
    Ok(())
}

#[test]
fn dependence_is_told_from_none() -> Result<()> {
    let (x, noise) = (normal(&[80, 2], 1), normal(&[80, 2], 2));
    for estimator in ESTIMATORS {
        let hsic = Hsic::new(estimator, BandwidthRule::Median)?;
        let (square, none) = (
            value(&hsic.between(&x, &x.sqr()?)?),
            value(&hsic.between(&x, &noise)?),
        );
        assert!(square > 3.0 * none.abs(), "{estimator:?}: {square} {none}");
    }
    // Of wide features a fixed length sees nothing, the median does.
    let x = normal(&[40, 200], 3);
    let biased = |bandwidth, y: &Tensor| -> Result<f64> {
        Ok(value(
            &Hsic::new(HsicEstimator::Unbiased, bandwidth)?.between(&x, y)?,
        ))
    };
    assert!(biased(BandwidthRule::Fixed(1.0), &x)? < 1e-12);
    assert!(
        biased(BandwidthRule::Median, &x)?
            > 10.0 * biased(BandwidthRule::Median, &normal(&[40, 200], 4))?.abs()
    );
    Ok(())
}

#[test]
fn threads_do_not_change_bits() -> Result<()> {
    let run = |threads| -> Vec<(f64, [Vec<f64>; 2])> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let (a, b) = (normal(&[300, 40], 0), normal(&[300, 40], 1));
            let all = narrow().into_iter().chain(wide());
            all.map(|m| value_and_gradients(&a, &b, |a, b| m.between(a, b)))
                .collect()
        })
    };
    assert!(run(1) == run(3));
    Ok(())
}

#[test]
fn wrong_input_is_named() {
    let says = |measure: &dyn Measure, a: &Tensor, b: &Tensor, words: &str| {
        let text = measure.between(a, b).unwrap_err().to_string();
        assert!(text.contains(words), "{measure:?}: {text}");
    };
    let x = normal(&[5, 3], 0);
    let mut bad = numbers(&x);
    bad[7] = f64::NAN;
    let bad = Tensor::from_vec(bad, (5, 3), &Device::Cpu).unwrap();
    for measure in narrow().iter().chain(&wide()) {
        let m = measure.as_ref();
        says(m, &x, &bad, "row 2, column 1");
        says(m, &bad, &x, "row 2, column 1");
        says(m, &x, &x.to_dtype(DType::F32).unwrap(), "F32");
        if m.name() != "cosine_squared" {
            says(m, &x, &normal(&[5], 0), "[5]");
            says(m, &normal(&[2, 2, 2], 0), &x, "[2, 2, 2]");
        }
        if m.name() != "central_moments" {
            says(m, &x, &normal(&[4, 3], 1), "[4, 3]");
        }
        if !m.name().starts_with("cosine") {
            let one = normal(&[1, 3], 0);
            says(m, &one, &one, "take larger batches");
        }
    }
    for measure in narrow() {
        says(measure.as_ref(), &x, &normal(&[5, 2], 1), "[5, 2]");
    }
    let three = normal(&[3, 2], 0);
    says(
        &hsic(HsicEstimator::Unbiased, 1.0),
        &three,
        &three,
        "at least 4",
    );
    let far = (normal(&[5, 3], 0) * 1e200).unwrap();
    says(
        &CentralMomentDiscrepancy::new(5, 1.0).unwrap(),
        &far,
        &x,
        "scale the inputs down",
    );
    let text = |error: decalign_decouple::Error| error.to_string();
    assert!(text(CosineMargin::new(1.0, CosineSign::Both).unwrap_err()).contains("[0, 1)"));
    assert!(
        text(CosineMargin::new(f64::NAN, CosineSign::Positive).unwrap_err()).contains("(-1, 1)")
    );
    assert!(text(CentralMomentDiscrepancy::new(0, 1.0).unwrap_err()).contains("between 1 and 32"));
    assert!(CentralMomentDiscrepancy::new(2, 0.0).is_err());
    assert!(text(Barlow::new(-1.0).unwrap_err()).contains("not negative"));
    assert!(Hsic::new(HsicEstimator::Biased, BandwidthRule::Fixed(0.0)).is_err());
}
