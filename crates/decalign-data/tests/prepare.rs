//! Splits, lengths and missing modalities; what an inspection finds.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_data::{Dataset, Labels, Modality, PAPER_COUNT, Part, Severity, SplitOptions};
use proptest::prelude::*;

const CPU: Device = Device::Cpu;
const PARTS: [Part; 3] = [Part::Train, Part::Valid, Part::Test];

fn data(n: usize) -> Dataset {
    let x = Tensor::arange(0f32, (n * 2) as f32, &CPU)
        .unwrap()
        .reshape((n, 2))
        .unwrap();
    Dataset::new("d", vec![Modality::new("a", &x, None).unwrap()]).unwrap()
}

fn rows(data: &Dataset, split: &str) -> Vec<Vec<usize>> {
    PARTS
        .iter()
        .map(|part| data.part(Some(split), *part).unwrap())
        .collect()
}

#[test]
fn shares_of_single_samples_are_exact() {
    let plan = SplitOptions::default();
    let split = data(100).with_fractions("", [0.7, 0.1, 0.2], plan).unwrap();
    let sizes: Vec<usize> = rows(&split, "split").iter().map(Vec::len).collect();
    assert_eq!(sizes, [70, 10, 20]);
    let other = SplitOptions::new(2);
    let other = data(100)
        .with_fractions("", [0.7, 0.1, 0.2], other)
        .unwrap();
    assert_ne!(rows(&split, "split"), rows(&other, "split"));
    let again = data(100).with_fractions("", [0.7, 0.1, 0.2], plan).unwrap();
    assert_eq!(rows(&split, "split"), rows(&again, "split"));
}

#[test]
fn strata_are_shared_out_too() {
    let classes = (0..200).map(|i| u32::from(i % 10 == 0)).collect();
    let labelled = data(200).with_labels(Labels::classes(classes)).unwrap();
    let plan = SplitOptions::default().stratified(true);
    let split = labelled
        .with_fractions("s", [0.5, 0.25, 0.25], plan)
        .unwrap();
    for (rows, expected) in rows(&split, "s").iter().zip([10, 5, 5]) {
        assert_eq!(rows.iter().filter(|r| *r % 10 == 0).count(), expected);
    }
    // Forty strata of one sample each: rounding must not give them all to training.
    let scores = (0..40).map(|i| i as f32).collect();
    let rare = data(40).with_labels(Labels::Scores(scores)).unwrap();
    let split = rare.with_fractions("s", [0.5, 0.25, 0.25], plan).unwrap();
    let sizes: Vec<usize> = rows(&split, "s").iter().map(Vec::len).collect();
    assert_eq!(sizes, [20, 10, 10]);
}

#[test]
fn folds_test_every_sample_once() {
    let split = data(23)
        .with_folds("fold", 5, SplitOptions::default())
        .unwrap();
    assert_eq!(split.split_names().count(), 5);
    let mut tested: Vec<usize> = Vec::new();
    for fold in 0..5 {
        let [train, valid, test] = &rows(&split, &format!("fold{fold}"))[..] else {
            panic!()
        };
        assert_eq!(train.len() + valid.len() + test.len(), 23);
        assert!((4..=5).contains(&test.len()));
        assert_eq!(*valid, rows(&split, &format!("fold{}", (fold + 1) % 5))[2]);
        tested.extend(test);
    }
    tested.sort_unstable();
    assert_eq!(tested, (0..23).collect::<Vec<_>>());
}

#[test]
fn plans_that_cannot_be_say_why() {
    let plan = SplitOptions::default();
    let message = |done: decalign_data::Result<Dataset>| done.unwrap_err().to_string();
    let error = message(data(9).with_fractions("", [0.5, 0.5, 0.5], plan));
    assert!(error.contains("of sum 1"), "{error}");
    let error = message(data(9).with_fractions("", [f64::NAN, 0.5, 0.5], plan));
    assert!(error.contains("of sum 1"), "{error}");
    let error = message(data(2).with_fractions("", [0.5, 0.25, 0.25], plan));
    assert!(
        error.contains("would be empty: there are 2 samples"),
        "{error}"
    );
    let error = message(data(9).with_folds("", 2, plan));
    assert!(error.contains("2 folds of 9 samples"), "{error}");
    let grouped = plan.grouped(true);
    let error = message(data(9).with_fractions("", [0.5, 0.25, 0.25], grouped));
    assert!(error.contains("groups: missing"), "{error}");
    let stratified = plan.stratified(true);
    let error = message(data(9).with_fractions("", [0.5, 0.25, 0.25], stratified));
    assert!(error.contains("labels: missing"), "{error}");
}

#[test]
fn paper_count_validates_on_the_test_part() {
    let parts = vec![
        Some(Part::Train),
        Some(Part::Valid),
        Some(Part::Test),
        Some(Part::Test),
    ];
    let split = data(4).with_split("", parts.clone()).unwrap();
    assert_eq!(rows(&split, PAPER_COUNT), [vec![0], vec![2, 3], vec![2, 3]]);
    split.check_split(PAPER_COUNT).unwrap();
    // A split of the data that is called so is what it says.
    let own = split.with_split(PAPER_COUNT, parts).unwrap();
    assert_eq!(rows(&own, PAPER_COUNT), [vec![0], vec![1], vec![2, 3]]);
    assert!(data(4).part(Some(PAPER_COUNT), Part::Train).is_err());
}

#[test]
fn zero_tails_are_lengths() {
    let x = Tensor::new(
        &[
            [[1f32, 0.], [0., 2.], [0., 0.]],
            [[0., 0.], [0., 0.], [0., 0.]],
            [[0., 0.], [0., 0.], [0., -3.]],
        ],
        &CPU,
    )
    .unwrap();
    let full = Tensor::ones((3, 2, 1), DType::F32, &CPU).unwrap();
    let modalities = vec![
        Modality::new("a", &x, None).unwrap(),
        Modality::new("b", &full, None).unwrap(),
        Modality::new("c", &x, Some(vec![3, 3, 3])).unwrap(),
    ];
    let data = Dataset::new("d", modalities)
        .unwrap()
        .with_zero_tails()
        .unwrap();
    let lengths: Vec<_> = data.modalities().iter().map(Modality::lengths).collect();
    assert_eq!(
        lengths,
        [Some([2, 0, 3].as_slice()), None, Some([3, 3, 3].as_slice())]
    );
    let marked = data.with_missing("b", &[1]).unwrap();
    assert_eq!(marked.modalities()[1].lengths(), Some([2, 0, 2].as_slice()));
    let mask = marked.batch(&[1, 2], DType::F32, &CPU).unwrap().sequences[1]
        .mask
        .clone()
        .unwrap();
    assert_eq!(mask.to_vec2::<f32>().unwrap(), [[0., 0.], [1., 1.]]);
    assert!(
        marked.clone().with_missing("b", &[3]).is_err() && marked.with_missing("x", &[0]).is_err()
    );
}

proptest! {
    #[test]
    fn groups_stay_together_and_shares_hold(
        groups in proptest::collection::vec(0u8..12, 30..80), seed in any::<u64>(),
    ) {
        let n = groups.len();
        let distinct: std::collections::BTreeSet<u8> = groups.iter().copied().collect();
        prop_assume!(distinct.len() >= 8);
        let largest = distinct.iter().map(|g| groups.iter().filter(|v| *v == g).count()).max().unwrap();
        let ids = groups.iter().enumerate().map(|(i, g)| format!("video{g}$_${i}")).collect();
        let data = data(n).with_ids(ids).unwrap();
        let plan = SplitOptions::new(seed).grouped(true);
        let shares = [0.5, 0.25, 0.25];
        let split = data.with_fractions("g", shares, plan).unwrap();
        let parts = rows(&split, "g");
        prop_assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), n);
        for group in distinct {
            let holds = |rows: &&Vec<usize>| rows.iter().any(|r| groups[*r] == group);
            prop_assert_eq!(parts.iter().filter(holds).count(), 1);
        }
        for (part, share) in parts.iter().zip(shares) {
            let off = (part.len() as f64 - share * n as f64).abs();
            prop_assert!(off <= largest as f64, "{} {} {}", off, largest, n);
        }
    }

    #[test]
    fn strata_are_within_one_sample_of_their_share(
        classes in proptest::collection::vec(0u32..4, 40..90), seed in any::<u64>(),
    ) {
        let n = classes.len();
        let data = data(n).with_labels(Labels::classes(classes.clone())).unwrap();
        let plan = SplitOptions::new(seed).stratified(true);
        let shares = [0.5, 0.3, 0.2];
        let split = data.with_fractions("s", shares, plan).unwrap();
        for (part, share) in rows(&split, "s").iter().zip(shares) {
            prop_assert!((part.len() as f64 - share * n as f64).abs() < 1.5);
            for class in 0..4 {
                let all = classes.iter().filter(|c| **c == class).count() as f64;
                let here = part.iter().filter(|r| classes[**r] == class).count() as f64;
                prop_assert!((here - share * all).abs() < 3.0, "{} {}", here, share * all);
            }
        }
    }
}

#[test]
fn an_inspection_finds_what_was_planted() {
    let n = 12;
    let mut text: Vec<f32> = (0..n * 3 * 4)
        .map(|i| ((i * 37) % 101) as f32 / 10.0 + 1.0)
        .collect();
    let sample = 12;
    // Feature 2 is constant, feature 3 a thousand times the others; sample 7 equals sample 2;
    // the last step of every sample is padding; sample 5 holds a NaN.
    for step in text.chunks_exact_mut(4) {
        step[2] = 0.5;
        step[3] *= 1000.0;
    }
    let copy = text[2 * sample..3 * sample].to_vec();
    text[7 * sample..8 * sample].copy_from_slice(&copy);
    text.chunks_exact_mut(sample).for_each(|s| s[8..].fill(0.0));
    text[5 * sample + 1] = f32::NAN;
    let text = Tensor::from_vec(text, (n, 3, 4), &CPU).unwrap();
    let parts: Vec<Option<Part>> = (0..n).map(|i| Some(PARTS[i / 4])).collect();
    let ids = (0..n).map(|i| format!("video{}$_${i}", i / 3)).collect();
    let classes = (0..n).map(|i| u32::from(i > 5)).collect();
    let data = Dataset::new("d", vec![Modality::new("text", &text, None).unwrap()])
        .unwrap()
        .with_split("", parts)
        .unwrap()
        .with_ids(ids)
        .unwrap()
        .with_labels(Labels::classes(classes))
        .unwrap();
    let seen = data.inspect().unwrap();
    let texts: Vec<String> = seen
        .findings
        .iter()
        .map(|f| format!("{:?} {}: {}", f.severity, f.field, f.message))
        .collect();
    let all = texts.join("\n");
    for expected in [
        "Error text: 1 numbers are NaN or infinite",
        "Error split: no training sample has class 1",
        "Error split: 2 groups are in more than one part, such as \"video1\" in train and valid",
        "Error split: 1 sets of samples of equal features lie in more than one part, such as samples \"video0$_$2\" and \"video2$_$7\"",
        "Warning text: 1 of 4 features never change: 2",
        "Warning text: 33 % of the steps are zeros at a sequence's end",
        "Warning text: deviations of features reach from",
    ] {
        assert!(all.contains(expected), "{expected}\n{all}");
    }
    assert!(seen.findings.is_sorted_by_key(|f| f.severity));
    assert!(seen.findings.iter().all(|f| !f.remedy.is_empty()));
    let text = &seen.modalities[0];
    assert_eq!(
        (text.non_finite, text.constant.clone(), text.missing),
        (1, vec![2], 0)
    );
    assert_eq!(text.length, [2.0, 2.0, 2.0]);
    assert_eq!(seen.groups, Some(4));
}

#[test]
fn moments_of_an_inspection_are_those_of_the_definition() {
    let values: Vec<f32> = (0..4000)
        .map(|i| 1e4 + ((i * 7919) % 1000) as f32 / 100.0)
        .collect();
    let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    let mean = wide.iter().sum::<f64>() / 4000.0;
    let deviation = (wide.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4000.0).sqrt();
    let x = Tensor::from_vec(values, (500, 2, 4), &CPU).unwrap();
    let data = Dataset::new("d", vec![Modality::new("a", &x, None).unwrap()]).unwrap();
    let seen = data.inspect().unwrap().modalities[0].clone();
    assert!((seen.mean - mean).abs() < 1e-8 && (seen.deviation - deviation).abs() < 1e-8);
    assert!(
        data.inspect()
            .unwrap()
            .findings
            .iter()
            .all(|f| f.severity <= Severity::Note)
    );
}

#[test]
fn means_are_over_the_steps_that_exist() {
    let x = Tensor::arange(0f32, 36.0, &CPU)
        .unwrap()
        .reshape((3, 4, 3))
        .unwrap();
    let modality = Modality::new("a", &x, Some(vec![2, 0, 4])).unwrap();
    let means = modality.mean_over_steps(&[2, 1, 0, 0]).unwrap();
    assert_eq!(
        means,
        [28.5, 29.5, 30.5, 0., 0., 0., 1.5, 2.5, 3.5, 1.5, 2.5, 3.5]
    );
    assert!(modality.mean_over_steps(&[3]).is_err());
}
