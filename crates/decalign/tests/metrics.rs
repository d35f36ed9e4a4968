//! Metrics against those of the upstream code and against values computed on paper.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::{DType, Device};
use decalign::metrics::Benchmark;
use serde_json::Value;

#[test]
fn figures_match_the_release_to_the_printed_digits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metrics");
    let arrays =
        candle_core::safetensors::load(folder.join("arrays.safetensors"), &Device::Cpu).unwrap();
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap())
            .unwrap();
    let numbers = |name: String| {
        arrays[&name]
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    let mut compared = 0;
    for (case, entry) in expected.as_object().unwrap() {
        let classes = match entry["mode"].as_str().unwrap() {
            "regression" => None,
            _ => Some(if case.starts_with("mosi3c") { 3 } else { 6 }),
        };
        let benchmark = Benchmark::of(entry["dataset"].as_str().unwrap(), classes);
        let metrics = benchmark.evaluate(
            &numbers(format!("{case}.pred")),
            &numbers(format!("{case}.true")),
        );
        for (name, want) in entry["metrics"].as_object().unwrap() {
            let got = metrics.get(name).unwrap();
            let want = want.as_f64().unwrap();
            assert!(
                (got - want).abs() <= 0.5e-4 + 1e-9,
                "{case} {name}: {got}, expected {want}"
            );
            compared += 1;
        }
    }
    assert!(compared > 50);
}

#[test]
fn both_conventions_of_zero_are_there() {
    let metrics = Benchmark::Mosi.evaluate(&[0.5, -0.5, 0.0, -1.0], &[1.0, 0.0, 0.0, 2.0]);
    assert_eq!(metrics.get("Acc_2"), Some(0.5));
    assert_eq!(metrics.get("Has0_acc_2"), Some(0.5));
    let three = Benchmark::ThreeClasses;
    // Neutral is left out, and first and last score decide.
    let metrics = three.evaluate(
        &[0.2, 0.9, 0.1, 0.1, 0.0, 0.3, 0.5, 0.6, 0.4],
        &[0.0, 2.0, 1.0],
    );
    assert_eq!(metrics.get("Non0_acc_2"), Some(1.0));
    assert_eq!(metrics.get("Has0_acc_2"), Some(1.0));
    assert_eq!(metrics.get("Acc_3"), Some(2.0 / 3.0));
}

#[test]
fn nothing_and_constants_have_finite_figures() {
    let all = [
        Benchmark::Mosi,
        Benchmark::Sims,
        Benchmark::Regression,
        Benchmark::ThreeClasses,
        Benchmark::Iemocap,
        Benchmark::Classification,
    ];
    for benchmark in all {
        for (p, y) in [(vec![], vec![]), (vec![0.0; 6], vec![1.0; 2])] {
            assert!(
                benchmark
                    .evaluate(&p, &y)
                    .iter()
                    .all(|(_, v)| v.is_finite()),
                "{benchmark:?}"
            );
        }
    }
}
