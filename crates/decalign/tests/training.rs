//! Whole runs: any number of modalities, repeatable, and safe when they fail.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use decalign::config::Config;
use decalign::data::{Dataset, Modality, Part};
use decalign::train::{DecAlignTrainer, EpochReport, Flow, Observer, Silent};
use decalign::{Checkpoint, ErrorKind, Predictor};

mod common;

use common::{clouds, small};

const CPU: Device = Device::Cpu;

fn error(config: &Config, data: &Dataset) -> String {
    let trainer = DecAlignTrainer::new(config, data, &CPU);
    let error = trainer
        .and_then(|t| t.run(None, &mut Silent))
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn any_number_of_modalities_trains_saves_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    for views in 2..=5 {
        let data = clouds(views);
        let file = folder.path().join(format!("{views}.safetensors"));
        let trainer = DecAlignTrainer::new(&small(&["num_epochs=12"]), &data, &CPU).unwrap();
        let outcome = trainer.run(Some(&file), &mut Silent).unwrap();
        assert!(
            outcome.test.get("Acc").unwrap() > 0.6,
            "{views}: {:?}",
            outcome.test
        );
        let predictor = Predictor::new(Checkpoint::open(&file).unwrap(), &CPU).unwrap();
        let test = data.part(None, Part::Test).unwrap();
        assert_eq!(predictor.evaluate(&data, &test).unwrap(), outcome.test);
        let predictions = predictor.predict(&data, &test).unwrap();
        let sum: f32 = predictions.probabilities(0).unwrap().iter().sum();
        assert!((sum - 1.0).abs() < 1e-5 && predictions.len() == 24);
        assert!(["0", "1", "2"].contains(&predictions.label(0).unwrap()));
    }
}

#[test]
fn one_seed_gives_one_file_whatever_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let train = |threads: usize, seed: u64| {
        let file = folder.path().join(format!("{threads}-{seed}.safetensors"));
        let config = small(&["ct_weight=0.1"]).with_seed(seed);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let trainer = DecAlignTrainer::new(&config, &clouds(3), &CPU).unwrap();
            trainer.run(Some(&file), &mut Silent).unwrap();
        });
        std::fs::read(file).unwrap()
    };
    let one = train(1, 7);
    assert!(one == train(2, 7) && one == train(4, 7));
    assert!(one != train(1, 8));
}

#[test]
fn reference_semantics_takes_three_modalities() {
    let set = small(&["semantics=reference"]);
    DecAlignTrainer::new(&set, &clouds(3), &CPU)
        .unwrap()
        .run(None, &mut Silent)
        .unwrap();
    let message = error(&set, &clouds(2));
    assert!(
        message.contains("exactly three modalities, not 2 (view0, view1)"),
        "{message}"
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let data = clouds(3);
    let cases = [
        ("batch_size=1", "configuration key batch_size: is 1"),
        (
            "num_prototypes=11",
            "configuration key num_prototypes: is 11, more than the 10 samples",
        ),
        (
            "num_classes=2",
            "num_classes: is 2, but the labels of clouds go up to class 2",
        ),
        (
            "train_mode=regression",
            "train_mode: does not fit the labels of clouds, which are classes",
        ),
        (
            "modalities=view0,viewX",
            "viewX: no such modality; there are view0, view1, view2",
        ),
        ("modalities=view0", "alignment needs two"),
        ("active_modalities=view0", "alignment needs two"),
        ("num_prototypes=300", "num_prototypes: is 300, more than"),
        (
            "dst_feature_dim_nheads=999999,1",
            "dst_feature_dim_nheads: a model of width 999999",
        ),
        (
            "nlevels=1000000000",
            "dst_feature_dim_nheads: a model of width 12 with 1000000000 layers",
        ),
        (
            "feature_standardize_modalities=view9",
            "feature_standardize_modalities: view9 is none of",
        ),
        ("split=other", "split_other: no such split; there are split"),
        (
            "dst_feature_dim_nheads=12,5",
            "width 12 is not a positive multiple of 5 heads",
        ),
        (
            "relu_dropout=1",
            "relu_dropout: is 1, must be a probability below 1",
        ),
        ("lambda_ot=0", "lambda_ot: is 0, must be positive"),
        ("alpha=-1", "alpha: is -1, must be 0 or positive"),
        ("nlevels=0", "nlevels: is 0, must be at least 1"),
        ("factor=2", "factor: is 2, must be at most 1"),
        (
            "conv1d_kernel_sizes=1,1",
            "conv1d_kernel_sizes: 2 entries for 3 modalities",
        ),
        (
            "conv1d_kernel_sizes=1,1,3",
            "conv1d_kernel_sizes: 3 steps for view2, whose sequences have 2",
        ),
        (
            "selection_metric=Acc_9",
            "selection_metric: Acc_9 is unknown; known are loss, Acc",
        ),
        (
            "feature_clip_percentiles=90,10",
            "percentiles: (90, 10) is not a range",
        ),
    ];
    for (set, expected) in cases {
        let message = error(&small(&[set]), &data);
        assert!(message.contains(expected), "{set}: {message}");
    }
    // Larger than the training part.
    let message = error(&small(&["num_prototypes=40", "batch_size=40"]), &data);
    assert!(
        message.contains("the training part has 36 samples"),
        "{message}"
    );
}

#[test]
fn names_that_would_share_parameters_are_refused() {
    let clean = clouds(2);
    let named =
        |i: usize, name: &str| Modality::new(name, clean.modalities()[i].features(), None).unwrap();
    let data = Dataset::new("ties", vec![named(0, "text"), named(1, "l")])
        .unwrap()
        .with_labels(clean.labels().unwrap().clone())
        .unwrap()
        .with_split(
            "",
            (0..72)
                .map(|i| Some([Part::Train, Part::Valid, Part::Test][i % 3]))
                .collect(),
        )
        .unwrap();
    let message = error(&small(&[]), &data);
    assert!(
        message.contains("modalities: two would name their parameters l; rename l"),
        "{message}"
    );
}

#[test]
fn nan_features_stop_before_training_unless_replaced() {
    let mut features = vec![0.5f32; 72 * 3];
    features[7] = f32::NAN;
    let features = Tensor::from_vec(features, (72, 3), &CPU).unwrap();
    let clean = clouds(2);
    let mut modalities = clean.modalities().to_vec();
    modalities.push(Modality::new("bad", &features, None).unwrap());
    let parts = (0..72).map(|i| Some([Part::Train, Part::Valid, Part::Test][i % 3]));
    let data = Dataset::new("nan", modalities)
        .unwrap()
        .with_labels(clean.labels().unwrap().clone())
        .unwrap()
        .with_split("", parts.collect())
        .unwrap();
    let message = error(&small(&[]), &data);
    assert!(
        message.contains("nan: bad: 1 NaN or infinite, the first at sample 2"),
        "{message}"
    );
    let config = small(&["replace_non_finite=true"]);
    DecAlignTrainer::new(&config, &data, &CPU)
        .unwrap()
        .run(None, &mut Silent)
        .unwrap();
}

/// Counts finished epochs.
struct Count(usize);

impl Observer for Count {
    fn epoch(&mut self, report: &EpochReport) -> decalign::Result<Flow> {
        assert_eq!(report.header().len(), report.row().len());
        self.0 += 1;
        Ok(Flow::Continue)
    }
}

#[test]
fn divergence_names_component_and_step_and_keeps_the_last_good_model() {
    let folder = tempfile::tempdir().unwrap();
    // Somewhere between a rate that trains and one that fails at once lies one that fails later.
    let mut found = 0;
    for step in 0..40 {
        let rate = 0.3 * 1.2f64.powi(step);
        let file = folder.path().join(format!("{step}.safetensors"));
        let mut config = small(&["num_epochs=10", "clip=1e6"]);
        config.learning_rate = rate;
        let trainer = DecAlignTrainer::new(&config, &clouds(3), &CPU).unwrap();
        let mut count = Count(0);
        let Err(error) = trainer.run(Some(&file), &mut count) else {
            continue;
        };
        assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
        let message = error.to_string();
        assert!(
            message.contains(&format!("of epoch {}", count.0 + 1)),
            "{message}"
        );
        let names = ["loss", "the norm of the gradients"];
        assert!(names.iter().any(|name| message.contains(name)), "{message}");
        assert_eq!(file.exists(), count.0 > 0);
        if count.0 > 0 {
            let checkpoint = Checkpoint::open(&file).unwrap();
            let predictor = Predictor::new(checkpoint, &CPU).unwrap();
            let scores = predictor.predict(&clouds(3), &[0, 1]).unwrap();
            assert!(scores.scores(0).iter().all(|v| v.is_finite()));
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn prediction_asks_for_the_widths_of_training() {
    let outcome = DecAlignTrainer::new(&small(&["num_epochs=1"]), &clouds(2), &CPU)
        .unwrap()
        .run(None, &mut Silent)
        .unwrap();
    let predictor = Predictor::new(outcome.model, &CPU).unwrap();
    let wide = clouds(3);
    let renamed =
        |i: usize, name: &str| Modality::new(name, wide.modalities()[i].features(), None).unwrap();
    let data = Dataset::new("wide", vec![renamed(0, "view0"), renamed(2, "view1")]).unwrap();
    let message = predictor.predict(&data, &[0]).unwrap_err().to_string();
    assert!(
        message.contains("wide: view1: 6 features a step, the checkpoint was trained with 5"),
        "{message}"
    );
    let missing = Dataset::new("missing", vec![renamed(0, "view0")]).unwrap();
    let message = predictor.predict(&missing, &[0]).unwrap_err().to_string();
    assert!(message.contains("view1: no such modality"), "{message}");
    let message = predictor.evaluate(&data, &[0]).unwrap_err().to_string();
    assert!(message.contains("labels: missing"), "{message}");
}

#[test]
fn damaged_checkpoints_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("best.safetensors");
    let trainer = DecAlignTrainer::new(&small(&["num_epochs=1"]), &clouds(2), &CPU).unwrap();
    trainer.run(Some(&file), &mut Silent).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let broken = folder.path().join("broken.safetensors");
    let open = |bytes: &[u8]| {
        std::fs::write(&broken, bytes).unwrap();
        let opened = Checkpoint::open(&broken).and_then(|c| Predictor::new(c, &CPU));
        opened.map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(open(&bytes).is_ok());
    assert!(
        open(&bytes[..bytes.len() / 2])
            .unwrap_err()
            .contains("broken.safetensors")
    );
    assert!(open(b"").unwrap_err().contains("not a safetensors file"));
    // Any bit: the checksum covers the whole file, itself included.
    let every = (0..600).chain((600..bytes.len()).step_by(997));
    for (i, at) in every.enumerate() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (i % 8);
        let message = open(&damaged).unwrap_err();
        assert!(
            message.contains("broken.safetensors: "),
            "byte {at}: {message}"
        );
    }
    let cut = open(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(
        cut.contains("damaged: its content is not what its checksum says"),
        "{cut}"
    );
}
