//! Formats: what is read is what was written, whatever the format.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use decalign_data::{Dataset, Labels, Modality, OutputFormat, Part, Precision};
use proptest::prelude::*;
use safetensors::SafeTensors;

const CPU: Device = Device::Cpu;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/pickle/{name}"))
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn same(a: &[f32], b: &[f32]) -> bool {
    let pair = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    a.len() == b.len() && a.iter().zip(b).all(pair)
}

/// Everything a data set holds is in the other, too.
fn assert_equal(a: &Dataset, b: &Dataset) {
    assert_eq!(a.len(), b.len());
    assert_eq!(a.labels(), b.labels());
    assert_eq!(a.ids(), b.ids());
    assert_eq!(a.texts(), b.texts());
    assert_eq!(a.groups(), b.groups());
    assert!(a.split_names().eq(b.split_names()));
    for name in a.split_names() {
        for part in [Part::Train, Part::Valid, Part::Test] {
            let rows = |d: &Dataset| d.part(Some(name), part).unwrap_or_default();
            assert_eq!(rows(a), rows(b), "{name}");
        }
    }
    assert_eq!(a.modalities().len(), b.modalities().len());
    for (a, b) in a.modalities().iter().zip(b.modalities()) {
        assert_eq!((a.name(), a.lengths()), (b.name(), b.lengths()));
        assert_eq!(a.features().dims(), b.features().dims());
        assert!(
            same(&numbers(a.features()), &numbers(b.features())),
            "{}",
            a.name()
        );
    }
    let rows: Vec<usize> = (0..a.len()).collect();
    let tokens = |d: &Dataset| d.tokens().map(|t| (t.steps(), t.gather(&rows).unwrap()));
    assert_eq!(tokens(a), tokens(b));
}

#[test]
fn fixtures_become_data_sets_equal_to_their_twins() {
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "pkl") {
            continue;
        }
        let data = Dataset::open(&path).unwrap();
        let parts = [(Part::Train, 6), (Part::Valid, 3), (Part::Test, 4)];
        for (part, count) in parts {
            assert_eq!(data.part(None, part).unwrap().len(), count, "{path:?}");
        }
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
        let twin = SafeTensors::deserialize(&bytes).unwrap();
        let whole = |field: &str| -> Option<Vec<f32>> {
            let mut all = Vec::new();
            for part in ["train", "valid", "test"] {
                let view = twin.tensor(&format!("{part}.{field}")).ok()?;
                let dtype = DType::try_from(view.dtype()).unwrap();
                let x = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &CPU).unwrap();
                all.extend(numbers(&x));
            }
            Some(all)
        };
        let mut checked = 0;
        for modality in data.modalities() {
            assert!(same(
                &numbers(modality.features()),
                &whole(modality.name()).unwrap()
            ));
            if let Some(lengths) = whole(&format!("{}_lengths", modality.name())) {
                let got: Vec<f32> = modality
                    .lengths()
                    .unwrap()
                    .iter()
                    .map(|l| *l as f32)
                    .collect();
                assert_eq!(got, lengths);
                checked += 1;
            }
            checked += 1;
        }
        if let Some(tokens) = data.tokens() {
            let got = tokens.gather(&(0..13).collect::<Vec<_>>()).unwrap();
            let got: Vec<f32> = got.iter().map(|v| *v as f32).collect();
            assert_eq!(got, whole("text_bert").unwrap());
            checked += 1;
        }
        match data.labels().unwrap() {
            Labels::Scores(scores) => assert!(same(scores, &whole("regression_labels").unwrap())),
            Labels::Classes { values, .. } => {
                let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                assert_eq!(values, whole("classification_labels").unwrap());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(3 * (checked + 1), twin.names().len(), "{path:?}");
        assert_eq!(data.ids().unwrap()[8], "vid$2");
        assert_eq!(data.texts().unwrap()[0], "sentence 0 é");
    }
}

#[test]
fn fixtures_come_back_from_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "aligned-protocol0",
        "tokens-protocol4",
        "unaligned-protocol4",
        "classes-protocol5",
    ] {
        let data = Dataset::open(fixture(&format!("{name}.pkl"))).unwrap();
        for target in [
            OutputFormat::Container,
            OutputFormat::Npz,
            OutputFormat::Pickle,
        ] {
            let file = folder.path().join(format!("{name}.out"));
            let mut last = (0, 0);
            let mut progress = |done, total| last = (done, total);
            data.write(&file, target, Precision::F32, &mut progress)
                .unwrap();
            assert!(last.0 == last.1 && last.0 > 0, "{last:?}");
            assert_equal(&data, &Dataset::open(&file).unwrap());
        }
    }
    // The mapped file may be replaced by what is read from it.
    let file = folder.path().join("again.safetensors");
    let data = Dataset::open(fixture("unaligned-protocol4.pkl")).unwrap();
    data.save(&file).unwrap();
    let again = Dataset::open(&file).unwrap();
    again.save(&file).unwrap();
    assert_equal(&data, &Dataset::open(&file).unwrap());
}

#[test]
fn halves_round_to_the_nearest_and_refuse_what_they_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("half.safetensors");
    let x = Tensor::new(&[[1.0f32, 0.1], [-65504.0, f32::INFINITY]], &CPU).unwrap();
    let data = |x| Dataset::new("d", vec![Modality::new("a", &x, None).unwrap()]).unwrap();
    let write = |data: &Dataset| {
        data.write(
            &file,
            OutputFormat::Container,
            Precision::F16,
            &mut |_, _| {},
        )
    };
    write(&data(x)).unwrap();
    let back = Dataset::open(&file).unwrap();
    let got = numbers(back.modalities()[0].features());
    assert_eq!(got, [1.0, 0.099_975_586, -65504.0, f32::INFINITY]);
    let large = Tensor::new(&[[70000.0f32]], &CPU).unwrap();
    let error = write(&data(large)).unwrap_err().to_string();
    assert!(error.contains("a: 70000 is beyond the 65504"), "{error}");
    assert_equal(&back, &Dataset::open(&file).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_pickle_needs_one_split_that_holds_every_sample() {
    let folder = tempfile::tempdir().unwrap();
    let x = Tensor::zeros((2, 3), DType::F32, &CPU).unwrap();
    let data = Dataset::new("d", vec![Modality::new("a", &x, None).unwrap()]).unwrap();
    let write = |data: &Dataset| {
        let file = folder.path().join("x.pkl");
        let done = data.write(&file, OutputFormat::Pickle, Precision::F32, &mut |_, _| {});
        done.map_err(|error| error.to_string())
    };
    assert!(write(&data).unwrap_err().contains("needs a split"));
    let half = data
        .clone()
        .with_split("", vec![Some(Part::Train), None])
        .unwrap();
    assert!(
        write(&half)
            .unwrap_err()
            .contains("1 samples are in no part of split")
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A data set of any sizes and content.
fn any_data() -> impl Strategy<Value = Dataset> {
    let sizes = (3usize..9, 1usize..4, 1usize..5, 0usize..3, any::<u64>());
    sizes.prop_map(|(n, t, d, kind, seed)| {
        let mut state = seed | 1;
        let mut draw = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let mut bits = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| f32::from_bits(draw().wrapping_mul(2)))
                .collect()
        };
        let text = Tensor::from_vec(bits(n * t * d), (n, t, d), &CPU).unwrap();
        let other = Tensor::from_vec(bits(n * d), (n, d), &CPU).unwrap();
        let lengths = (0..n).map(|i| i % (t + 1)).collect();
        let modalities = vec![
            Modality::new("text", &text, Some(lengths)).unwrap(),
            Modality::new("zweite", &other, None).unwrap(),
        ];
        let parts = (0..n).map(|i| Some([Part::Train, Part::Valid, Part::Test][i * 3 / n]));
        let data = Dataset::new("any", modalities).unwrap();
        let data = data.with_split("", parts.collect()).unwrap();
        let words = (0..n).map(|i| format!("{}\u{1F600}é'{i}\\n", "x".repeat(i * 37 % 11)));
        let data = data.with_ids(words.clone().rev().collect()).unwrap();
        match kind {
            0 => data,
            1 => {
                let scores = (0..n).map(|i| i as f32 / 7.0 - 1.0).collect();
                data.with_labels(Labels::Scores(scores))
                    .unwrap()
                    .with_texts(words.collect())
                    .unwrap()
            }
            _ => {
                let classes = (0..n).map(|i| (i % 3) as u32).collect();
                data.with_labels(Labels::classes(classes)).unwrap()
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_format_gives_back_what_was_written(data in any_data()) {
        let folder = tempfile::tempdir().unwrap();
        for target in [OutputFormat::Container, OutputFormat::Npz, OutputFormat::Pickle] {
            let file = folder.path().join("file");
            data.write(&file, target, Precision::F32, &mut |_, _| {}).unwrap();
            assert_equal(&data, &Dataset::open(&file).unwrap());
        }
    }

    #[test]
    fn batches_of_files_are_those_of_tensors(data in any_data(), pick in proptest::collection::vec(0usize..3, 1..5)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        data.save(&file).unwrap();
        let back = Dataset::open(&file).unwrap();
        let a = data.batch(&pick, DType::F32, &CPU).unwrap();
        let b = back.batch(&pick, DType::F32, &CPU).unwrap();
        for (a, b) in a.sequences.iter().zip(&b.sequences) {
            prop_assert!(same(&numbers(&a.features), &numbers(&b.features)));
        }
        let found = |d: &Dataset| d.non_finite().unwrap();
        prop_assert_eq!(found(&data), found(&back));
    }
}
