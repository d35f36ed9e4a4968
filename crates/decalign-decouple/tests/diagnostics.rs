//! Diagnostics: samples left out in fact, known answers, the table, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{golden_parts, normal, value, waves};
use decalign_core::Result;
use decalign_decouple::{
    BandwidthRule, Decoupled, Diagnostics, Hsic, HsicEstimator, Measure, Report, TimeAxis,
};

fn with(penalty: f64) -> Diagnostics {
    Diagnostics::new().penalties(&[penalty]).unwrap()
}

#[test]
fn the_hat_matrix_leaves_out_as_refitting_does() -> Result<()> {
    // Of golden/make.py: more rows than columns, one more, fewer.
    let (a, b) = golden_parts();
    let wide = waves(8, 12, (1.7, 2.3, 0.5));
    let of = |x: &Tensor, rows| x.narrow(0, 0, rows);
    let cases = [
        (of(&a, 9)?, of(&b, 9)?, 0.1, -0.615_251_998_220_526_7),
        (of(&a, 4)?, of(&b, 4)?, 0.01, -0.202_792_898_583_428_86),
        (wide, of(&b, 8)?, 0.1, -0.763_762_356_405_185_4),
    ];
    for (x, y, penalty, want) in cases {
        let found = with(penalty).predict(&x, &y)?;
        let got = found.r2.unwrap();
        assert!((got - want).abs() < 1e-11, "{got} {want}");
        assert_eq!(found.penalty, penalty * x.dims()[0] as f64);
        let single = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
        let rough = with(penalty).predict(&single(&x), &single(&y))?.r2.unwrap();
        assert!((rough - want).abs() < 1e-5, "{rough} {want}");
    }
    Ok(())
}

#[test]
fn known_answers() -> Result<()> {
    let r2 = |x: &Tensor, y: &Tensor| -> Result<Option<f64>> {
        Ok(Diagnostics::new().predict(x, y)?.r2)
    };
    let (x, noise) = (normal(&[400, 5], 0), normal(&[400, 5], 1));
    // A linear map of x, on any scale, is known.
    let map = normal(&[5, 7], 2);
    assert!(r2(&x, &((x.matmul(&map)? * 1e6)? + 1e3)?)?.unwrap() > 1.0 - 1e-6);
    // Noise of the same variance: half.
    let half = r2(&x, &(&x + &noise)?)?.unwrap();
    assert!((half - 0.5).abs() < 0.06, "{half}");
    // Independent: about nothing, however many columns.
    for d in [1, 5, 60, 500] {
        let none = r2(&normal(&[100, d], 3), &noise.narrow(0, 0, 100)?)?.unwrap();
        assert!(none.abs() < 0.05, "{d}: {none}");
    }
    // Constant columns predict nothing, and leave nothing to predict.
    let same = (Tensor::ones((400, 2), DType::F64, &Device::Cpu)? * 0.3)?;
    assert!(r2(&same, &x)?.unwrap().abs() < 1e-12);
    assert_eq!(r2(&x, &same)?, None);
    let both = Tensor::cat(&[&x, &same], 1)?;
    assert!((r2(&x, &both)?.unwrap() - r2(&x, &x)?.unwrap()).abs() < 1e-12);
    Ok(())
}

fn parts(n: usize, leak: f64) -> Vec<Decoupled> {
    let part = |i: u64, leak: f64| {
        let (s, c) = (normal(&[n, 3, 4], 2 * i), normal(&[n, 3, 4], 2 * i + 1));
        Decoupled {
            unique: (s + (&c * leak).unwrap()).unwrap(),
            common: c,
        }
    };
    vec![part(0, 0.0), part(1, leak)]
}

#[test]
fn the_table() -> Result<()> {
    let parts = parts(200, 1.0);
    let report = Diagnostics::new().report(&["text", "video frames"], &parts)?;
    let (clean, mixed) = (&report.modalities[0], &report.modalities[1]);
    for r2 in [clean.common_from_unique.r2, clean.unique_from_common.r2] {
        assert!(r2.unwrap().abs() < 0.05);
    }
    for r2 in [mixed.common_from_unique.r2, mixed.unique_from_common.r2] {
        assert!((r2.unwrap() - 0.5).abs() < 0.1);
    }
    assert!(clean.hsic.unwrap().abs() < 0.05 && mixed.hsic.unwrap() > 0.2);
    assert!(mixed.cosine_squared > clean.cosine_squared);
    let lines: Vec<String> = report.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[0],
        "modality      R^2 common from unique  R^2 unique from common    cos^2     HSIC"
    );
    assert!(lines.iter().all(|l| l.len() == lines[0].len()), "{report}");
    assert!(lines[3].starts_with("mean ") && report.samples == 200);
    let want = (clean.hsic.unwrap() + mixed.hsic.unwrap()) / 2.0;
    assert!((report.means()[3].unwrap() - want).abs() < 1e-15);
    // Steps are samples of their own where one says so.
    let steps = Diagnostics::new()
        .time_axis(TimeAxis::Steps)
        .report(&["a", "b"], &parts)?;
    assert_eq!(steps.samples, 600);
    // What is constant has a dash.
    let x = normal(&[9, 2], 0);
    let dead = [Decoupled {
        unique: x.zeros_like()?,
        common: x,
    }];
    let report = Diagnostics::new().report(&["dead"], &dead)?;
    assert_eq!(report.modalities[0].hsic, None);
    assert_eq!(report.modalities[0].unique_from_common.r2, None);
    assert!(report.to_string().ends_with('-') && report.to_string().lines().count() == 2);
    Ok(())
}

#[test]
fn hsic_is_that_of_the_measure() -> Result<()> {
    let parts = parts(50, 1.0);
    let rows = |x: &Tensor| x.mean(1).unwrap();
    let hsic = Hsic::new(HsicEstimator::Unbiased, BandwidthRule::Median)?;
    let of = |a: &Tensor, b: &Tensor| value(&hsic.between(&rows(a), &rows(b)).unwrap());
    let report = Diagnostics::new().report(&["a", "b"], &parts)?;
    for (found, part) in report.modalities.iter().zip(&parts) {
        let (s, c) = (&part.unique, &part.common);
        let want = of(s, c) / (of(s, s) * of(c, c)).sqrt();
        assert!((found.hsic.unwrap() - want).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn threads_do_not_change_bits() -> Result<()> {
    let run = |threads| -> Report {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| {
            Diagnostics::new()
                .report(&["a", "b"], &parts(700, 0.3))
                .unwrap()
        })
    };
    assert_eq!(run(1), run(3));
    Ok(())
}

#[test]
fn many_samples() -> Result<()> {
    let report = Diagnostics::new().report(&["a", "b"], &parts(2500, 1.0))?;
    assert!(report.modalities[0].hsic.unwrap().abs() < 0.01);
    assert!(report.modalities[1].hsic.unwrap() > 0.2);
    Ok(())
}

#[test]
fn wrong_input_is_named() {
    let says = |names: &[&str], parts: &[Decoupled], words: &str| {
        let text = Diagnostics::new()
            .report(names, parts)
            .unwrap_err()
            .to_string();
        assert!(text.contains(words), "{text}");
    };
    says(&["a"], &parts(9, 0.0), "number of parts");
    says(&["a", "a"], &parts(9, 0.0), "rename");
    says(&[], &[], "modalities");
    says(&["a", "b"], &parts(3, 0.0), "at least 4");
    let mut bad = parts(9, 0.0);
    bad[1].common = (bad[1].common.clone() / 0.0).unwrap();
    says(&["a", "b"], &bad, "common part of modality 1");
    let x = normal(&[9, 2], 0);
    assert!(Diagnostics::new().predict(&x, &normal(&[8, 2], 0)).is_err());
    for penalties in [&[][..], &[0.0], &[f64::NAN], &[1.0, -1.0]] {
        assert!(Diagnostics::new().penalties(penalties).is_err());
    }
}
