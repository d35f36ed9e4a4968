//! Files, splits, batches and standardisation.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_data::{
    BatchSampler, Dataset, Labels, Modality, OutputFormat, Part, Precision, Standardizer,
};
use proptest::prelude::*;

const CPU: Device = Device::Cpu;

fn small() -> Dataset {
    let text = Tensor::arange(0f32, 24.0, &CPU)
        .unwrap()
        .reshape((4, 3, 2))
        .unwrap();
    let audio = Tensor::arange(0f32, 4.0, &CPU)
        .unwrap()
        .reshape((4, 1))
        .unwrap();
    let modalities = vec![
        Modality::new("text", &text, Some(vec![3, 0, 2, 1])).unwrap(),
        Modality::new("audio", &audio, None).unwrap(),
    ];
    let parts = vec![Some(Part::Train), Some(Part::Valid), Some(Part::Test), None];
    let names = ["no", "yes"].map(str::to_owned).to_vec();
    let texts = (0..4).map(|i| format!("text \"{i}\" ü")).collect();
    Dataset::new("small", modalities)
        .unwrap()
        .with_labels(Labels::Classes {
            values: vec![0, 1, 1, 0],
            names,
        })
        .unwrap()
        .with_split("", parts.clone())
        .unwrap()
        .with_split("other", parts.into_iter().rev().collect())
        .unwrap()
        .with_ids((0..4).map(|i| i.to_string()).collect())
        .unwrap()
        .with_texts(texts)
        .unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Writes a plain file of the given tensors and reads it as a data set.
fn read(tensors: &[(&str, Tensor)]) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.safetensors");
    let map: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&map, &path).unwrap();
    Dataset::open(&path).map_err(|error| error.to_string())
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &CPU).unwrap()
}

#[test]
fn a_saved_data_set_reads_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    let data = small();
    data.save(&path).unwrap();
    let back = Dataset::open(&path).unwrap();
    assert_eq!(back.labels(), data.labels());
    assert_eq!(back.ids(), data.ids());
    assert_eq!(back.texts(), data.texts());
    assert!(back.split_names().eq(data.split_names()));
    for (a, b) in back.modalities().iter().zip(data.modalities()) {
        assert_eq!((a.name(), a.lengths()), (b.name(), b.lengths()));
        assert_eq!(numbers(a.features()), numbers(b.features()));
    }
    assert_eq!(back.part(Some("other"), Part::Test).unwrap(), [1]);
    assert_eq!(back.part(Some("split_other"), Part::Train).unwrap(), [3]);
    assert_eq!(back.part(None, Part::Train).unwrap(), [0]);
}

#[test]
fn the_embedded_data_is_what_it_says() {
    let data = Dataset::mfeat().unwrap();
    assert_eq!(data.len(), 2000);
    let widths: Vec<(&str, usize)> = data
        .modalities()
        .iter()
        .map(|m| (m.name(), m.width()))
        .collect();
    assert_eq!(
        widths,
        [
            ("fac", 216),
            ("fou", 76),
            ("kar", 64),
            ("mor", 6),
            ("pix", 240),
            ("zer", 47)
        ]
    );
    let sizes =
        [Part::Train, Part::Valid, Part::Test].map(|part| data.part(None, part).unwrap().len());
    assert_eq!(sizes, [1200, 300, 500]);
    assert_eq!(data.labels().unwrap().names().len(), 10);
    data.check_finite().unwrap();
}

#[test]
fn batches_gather_features_masks_and_labels() {
    let batch = small().batch(&[2, 1], DType::F64, &CPU).unwrap();
    let text = &batch.sequences[0];
    assert_eq!(
        numbers(&text.features),
        [12., 13., 14., 15., 16., 17., 6., 7., 8., 9., 10., 11.]
    );
    assert_eq!(
        numbers(text.mask.as_ref().unwrap()),
        [1., 1., 0., 0., 0., 0.]
    );
    assert!(batch.sequences[1].mask.is_none());
    assert_eq!(batch.labels.unwrap().to_vec1::<u32>().unwrap(), [1, 1]);
    assert!(small().batch(&[4], DType::F32, &CPU).is_err());
}

#[test]
fn plain_files_are_read_by_convention() {
    let half = Tensor::ones((5, 2), DType::F16, &CPU).unwrap();
    let data = read(&[
        ("zebra", zeros(&[5, 7])),
        ("vision", half),
        ("text", zeros(&[5, 3, 4])),
        ("labels", zeros(&[5])),
        (
            "lengths.text",
            Tensor::new(&[1i64, 2, 3, 0, 1], &CPU).unwrap(),
        ),
        ("split_a", Tensor::new(&[0i64, 1, 2, -1, 0], &CPU).unwrap()),
    ])
    .unwrap();
    let names: Vec<&str> = data.modalities().iter().map(Modality::name).collect();
    assert_eq!(names, ["text", "vision", "zebra"]);
    assert_eq!(data.labels(), Some(&Labels::Scores(vec![0.0; 5])));
    // The only split is the one meant.
    assert_eq!(data.part(None, Part::Train).unwrap(), [0, 4]);
    assert_eq!(
        data.select(&["zebra", "text"]).unwrap().modalities()[0].width(),
        7
    );
}

#[test]
fn bad_files_say_which_field_and_what_was_expected() {
    let integers = |values: &[i64]| Tensor::new(values, &CPU).unwrap();
    let cases: [(&[(&str, Tensor)], &str); 10] = [
        (
            &[("a", zeros(&[2, 2])), ("lengths.b", integers(&[1, 1]))],
            "lengths.b: lengths of a modality that is not there",
        ),
        (
            &[("a", zeros(&[2, 2])), ("labels", integers(&[0, 1 << 40]))],
            "labels: 1099511627776 at sample 1 is not a class 0, 1, 2, ... below 65536",
        ),
        (&[("labels", zeros(&[3]))], "modalities: none found"),
        (
            &[("a", zeros(&[3, 2])), ("b", zeros(&[4, 2]))],
            "b: 4 samples, but a has 3",
        ),
        (
            &[("a", zeros(&[3]))],
            "a: expected shape (N, D) or (N, T, D)",
        ),
        (
            &[("a", integers(&[1, 2]).unsqueeze(1).unwrap())],
            "a: expected floating numbers, got i64",
        ),
        (
            &[("a", zeros(&[2, 2])), ("labels", integers(&[0, -1]))],
            "labels: -1 at sample 1 is not a class",
        ),
        (
            &[("a", zeros(&[2, 2])), ("split", integers(&[0, 3]))],
            "split: 3 at sample 1; expected 0 (train)",
        ),
        (
            &[("a", zeros(&[2, 2])), ("split", zeros(&[2]))],
            "split: expected integers (N), got f32",
        ),
        (
            &[("a", zeros(&[2, 2])), ("lengths.a", integers(&[2, 1]))],
            "a: length 2 of sample 0",
        ),
    ];
    for (tensors, expected) in cases {
        let error = read(tensors).unwrap_err();
        assert!(
            error.contains("plain.safetensors") && error.contains(expected),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    let error = Dataset::open("no/such/file").unwrap_err().to_string();
    assert!(error.starts_with("no/such/file: "), "{error}");
    let error = Dataset::read_safetensors(b"not this", "f")
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("f: not a safetensors file"), "{error}");
}

#[test]
fn a_missing_split_part_or_modality_is_named() {
    let data = small();
    let message = |error: decalign_data::Error| error.to_string();
    let error = message(data.part(Some("third"), Part::Train).unwrap_err());
    assert!(
        error.contains("split_third: no such split; there are split, split_other"),
        "{error}"
    );
    let no_test = Dataset::new("d", data.modalities().to_vec())
        .unwrap()
        .with_split("", vec![Some(Part::Train); 4])
        .unwrap();
    let error = message(no_test.part(None, Part::Test).unwrap_err());
    assert!(error.contains("no sample is in part test"), "{error}");
    let error = message(data.select(&["video"]).unwrap_err());
    assert!(
        error.contains("video: no such modality; there are text, audio"),
        "{error}"
    );
}

#[test]
fn non_finite_features_are_counted_located_and_replaced() {
    let mut values = vec![0f32; 12];
    values[7] = f32::NAN;
    values[11] = f32::INFINITY;
    let features = Tensor::from_vec(values, (2, 3, 2), &CPU).unwrap();
    let data = Dataset::new("d", vec![Modality::new("a", &features, None).unwrap()]).unwrap();
    let found = data.non_finite().unwrap();
    assert_eq!((found[0].count, found[0].first), (2, (1, 0, 1)));
    let error = data.check_finite().unwrap_err().to_string();
    assert!(
        error.contains("a: 2 NaN or infinite, the first at sample 1, step 0, feature 1"),
        "{error}"
    );
    let clean = data.replace_non_finite().unwrap();
    clean.check_finite().unwrap();
    assert_eq!(numbers(clean.modalities()[0].features()), [0.0; 12]);
}

#[test]
fn a_file_is_looked_through_where_it_lies() {
    // Several pieces, of f32 (in place) and of f16 (converted).
    let (n, d) = (700, 1000);
    let mut values: Vec<f32> = (0..n * d).map(|i| (i % 256) as f32).collect();
    values[4095] = f32::NEG_INFINITY;
    values[450 * d + 3] = f32::NAN;
    let features = Tensor::from_vec(values.clone(), (n, d), &CPU).unwrap();
    let modality = Modality::new("a", &features, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for precision in [Precision::F32, Precision::F16] {
        let data = Dataset::new("d", vec![modality.clone()]).unwrap();
        let written = data.write(&path, OutputFormat::Container, precision, &mut |_, _| ());
        written.unwrap();
        let read = Dataset::open(&path).unwrap();
        // The second time it is known.
        for _ in 0..2 {
            let found = read.non_finite().unwrap();
            assert_eq!((found[0].count, found[0].first), (2, (4, 0, 95)));
        }
        let pieces = read.modalities()[0].map_chunks(|rows, numbers| (rows, numbers.to_vec()));
        let pieces = pieces.unwrap();
        assert!(pieces.len() > 2);
        assert!(pieces.windows(2).all(|p| p[0].0.end == p[1].0.start));
        let bits = |numbers: &[f32]| numbers.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let all: Vec<f32> = pieces
            .into_iter()
            .flat_map(|(_, numbers)| numbers)
            .collect();
        assert_eq!(bits(&all), bits(&values));
    }
}

#[test]
fn percentiles_are_those_of_sorted_columns() {
    let (n, d) = (37, 19);
    let value = |i: usize| ((i * 7919) % 1009) as f32 / 100.0;
    let values: Vec<f32> = (0..n * d).map(value).collect();
    let features = Tensor::from_vec(values.clone(), (n, 1, d), &CPU).unwrap();
    let data = Dataset::new("d", vec![Modality::new("a", &features, None).unwrap()]).unwrap();
    let rows: Vec<usize> = (0..n).collect();
    for (low, high) in [(0.0, 100.0), (10.0, 90.0), (50.0, 51.0)] {
        let fitted = Standardizer::fit(&data, &rows, (low, high), |_| true).unwrap();
        let got = fitted.statistics("a").unwrap();
        for j in 0..d {
            let mut column: Vec<f64> = (0..n).map(|i| f64::from(values[i * d + j])).collect();
            column.sort_by(f64::total_cmp);
            let at = |p: f64| {
                let x = p / 100.0 * (n - 1) as f64;
                let (a, b) = (column[x.floor() as usize], column[x.ceil() as usize]);
                a + (b - a) * x.fract()
            };
            assert!((f64::from(got.low[j]) - at(low)).abs() < 1e-5);
            assert!((f64::from(got.high[j]) - at(high)).abs() < 1e-5);
            let clipped = column.iter().map(|v| v.clamp(at(low), at(high)));
            let mean = clipped.sum::<f64>() / n as f64;
            assert!((f64::from(got.mean[j]) - mean).abs() < 1e-5);
        }
    }
}

#[test]
fn standardisation_matches_the_release() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/standardise.safetensors");
    let arrays = candle_core::safetensors::load(path, &CPU).unwrap();
    let (train, valid) = (&arrays["train"], &arrays["valid"]);
    let n = train.dims()[0];
    let both = Tensor::cat(&[train, valid], 0).unwrap();
    let data = Dataset::new(
        "fixture",
        vec![Modality::new("audio", &both, None).unwrap()],
    )
    .unwrap();
    let rows: Vec<usize> = (0..n).collect();
    let fitted = Standardizer::fit(&data, &rows, (0.5, 99.5), |_| true).unwrap();
    let close = |got: &[f64], want: &Tensor, tolerance: f64| {
        for (g, w) in got.iter().zip(numbers(want)) {
            assert!((g - w).abs() <= tolerance * w.abs().max(1.0), "{g} {w}");
        }
    };
    let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let statistics = fitted.statistics("audio").unwrap();
    close(&wide(&statistics.low), &arrays["low"], 1e-6);
    close(&wide(&statistics.high), &arrays["high"], 1e-6);
    close(&wide(&statistics.mean), &arrays["mean"], 1e-6);
    close(&wide(&statistics.std), &arrays["std"], 1e-6);
    let out = fitted.apply(&data).unwrap();
    let expected = Tensor::cat(&[&arrays["train_out"], &arrays["valid_out"]], 0).unwrap();
    close(&numbers(out.modalities()[0].features()), &expected, 2e-6);
}

proptest! {
    #[test]
    fn standardised_training_features_have_mean_0_and_deviation_1(
        values in proptest::collection::vec(-1e3f32..1e3, 40), shift in -1e4f32..1e4,
    ) {
        let features = Tensor::from_vec(values, (20, 2), &CPU).unwrap();
        let features = (features + f64::from(shift)).unwrap();
        let data = Dataset::new("d", vec![Modality::new("a", &features, None).unwrap()]).unwrap();
        let rows: Vec<usize> = (0..20).collect();
        let fitted = Standardizer::fit(&data, &rows, (0.0, 100.0), |_| true).unwrap();
        let out = fitted.apply(&data).unwrap();
        let x = numbers(out.modalities()[0].features());
        for feature in 0..2 {
            let column: Vec<f64> = x.iter().skip(feature).step_by(2).copied().collect();
            let mean = column.iter().sum::<f64>() / 20.0;
            let square = column.iter().map(|v| v * v).sum::<f64>() / 20.0;
            // f32 features of size 1e4 with deviations of hundreds.
            prop_assert!(mean.abs() < 1e-2 && (square - 1.0).abs() < 1e-2, "{} {}", mean, square);
        }
    }

    #[test]
    fn reading_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Dataset::read_safetensors(&bytes, "fuzz");
    }

    #[test]
    fn reading_a_damaged_file_never_panics(at in 0usize..400, value in any::<u8>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        small().save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = Dataset::read_safetensors(&bytes, "fuzz");
    }
}

#[test]
fn an_epoch_visits_every_row_once_in_its_own_order() {
    let sampler = BatchSampler::new((10..33).collect(), 5, 7).unwrap();
    let flat = |epoch| sampler.epoch(epoch).concat();
    let mut sorted = flat(0);
    sorted.sort_unstable();
    assert_eq!(sorted, (10..33).collect::<Vec<_>>());
    assert_eq!(sampler.epoch(0).last().map(Vec::len), Some(3));
    assert_eq!(sampler.epoch(0).len(), sampler.len());
    assert_eq!(flat(1), flat(1));
    assert_ne!(flat(0), flat(1));
    let other = BatchSampler::new((10..33).collect(), 5, 8).unwrap();
    assert_ne!(flat(0), other.epoch(0).concat());
    assert!(BatchSampler::new(vec![], 5, 7).is_err() && BatchSampler::new(vec![1], 0, 7).is_err());
}
