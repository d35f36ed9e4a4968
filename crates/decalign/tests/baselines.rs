//! Networks of the literature: any number of modalities, repeatable, and able to fuse.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use decalign::baseline::{BaselineSettings, BaselineTrainer, Method};
use decalign::config::{Config, TaskLoss};
use decalign::core::random::Stream;
use decalign::data::{Dataset, Labels, Modality, Part};
use decalign::train::{ModelOutcome, ResumePolicy, Silent};

const CPU: Device = Device::Cpu;

/// Views of `steps` steps; the label is the product of the signs of the first two, or their sum, or
/// the first as a class.
fn signs(views: usize, steps: usize, product: bool, scores: bool) -> Dataset {
    let n = 240;
    let sign = |i: usize, view: usize| if (i >> view) & 1 == 1 { 1.0 } else { -1.0 };
    let modality = |view: usize| {
        let noise = Stream::new(7, view as u64).normal(n * steps * 3);
        let value = |k: usize| {
            let (i, feature) = (k / (3 * steps), k % 3);
            (0.2 * noise[k] + if feature == 0 { sign(i, view) } else { 0.0 }) as f32
        };
        let x =
            Tensor::from_vec((0..n * steps * 3).map(value).collect(), (n, steps, 3), &CPU).unwrap();
        let lengths = (steps > 1 && view == 0).then(|| (0..n).map(|i| 1 + i % steps).collect());
        Modality::new(format!("view.{view}"), &x, lengths).unwrap()
    };
    // A class of one view, as the mean of late fusion's votes cannot say "both".
    let label = |i: usize| match (product, scores) {
        (true, _) => sign(i, 0) * sign(i, 1),
        (false, true) => sign(i, 0) + sign(i, 1),
        (false, false) => sign(i, 0),
    };
    let labels = match scores {
        true => Labels::Scores((0..n).map(|i| label(i) as f32).collect()),
        false => Labels::classes((0..n).map(|i| u32::from(label(i) > 0.0)).collect()),
    };
    let part = |i: usize| Some([Part::Train, Part::Train, Part::Valid, Part::Test][(i / 8) % 4]);
    Dataset::new("signs", (0..views).map(modality).collect())
        .unwrap()
        .with_labels(labels)
        .unwrap()
        .with_split("", (0..n).map(part).collect())
        .unwrap()
}

fn settings(epochs: usize) -> BaselineSettings {
    let mut settings = BaselineSettings::default();
    settings.width = 16;
    settings.heads = 2;
    settings.layers = 1;
    settings.dropout = 0.0;
    settings.learning_rate = 5e-3;
    settings.epochs = epochs;
    settings.patience = epochs;
    settings
}

fn train(
    method: Method,
    settings: &BaselineSettings,
    config: &Config,
    data: &Dataset,
) -> decalign::Result<ModelOutcome<Method>> {
    let trainer = BaselineTrainer::new(settings, config, data, &CPU)?;
    trainer.run(method, &ResumePolicy::none(), &mut Silent)
}

fn run(method: Method, data: &Dataset, epochs: usize, seed: u64) -> ModelOutcome<Method> {
    let mut config = Config::default().with_seed(seed);
    config.num_prototypes = 2;
    config.task_loss = TaskLoss::Mse;
    train(method, &settings(epochs), &config, data).unwrap()
}

fn scores(outcome: &ModelOutcome<Method>) -> Vec<f32> {
    outcome.test_predictions.all_scores().to_vec()
}

#[test]
fn every_method_learns_from_sequences_of_uneven_length() {
    for scores in [false, true] {
        let data = signs(3, 4, false, scores);
        for method in Method::ALL {
            let outcome = run(method, &data, 40, 1);
            match scores {
                false => assert!(
                    outcome.test.get("Acc").unwrap() > 0.9,
                    "{method:?} {outcome:?}"
                ),
                true => assert!(
                    outcome.test.get("Corr").unwrap() > 0.9,
                    "{method:?} {:?}",
                    outcome.test
                ),
            }
            assert!(outcome.parameters > 0 && outcome.best_epoch >= 1);
        }
    }
}

#[test]
fn a_product_needs_fusion_that_is_not_linear_or_late() {
    let data = signs(2, 1, true, false);
    let accuracy = |method| run(method, &data, 60, 1).test.get("Acc").unwrap();
    for method in [
        Method::EarlyMlp,
        Method::TensorFusion,
        Method::LowRankFusion,
        Method::Misa,
    ] {
        assert!(accuracy(method) > 0.9, "{method:?} {}", accuracy(method));
    }
    for method in [Method::EarlyLinear, Method::Late] {
        assert!(accuracy(method) < 0.75, "{method:?} {}", accuracy(method));
    }
}

#[test]
fn one_seed_gives_one_result_whatever_the_threads() {
    let data = signs(2, 2, false, false);
    for method in Method::ALL {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| scores(&run(method, &data, 3, 5)))
        };
        let one = with(1);
        assert_eq!(one, with(3), "{method:?}");
        assert_ne!(one, scores(&run(method, &data, 3, 6)), "{method:?}");
    }
}

#[test]
fn many_modalities_fit_or_are_refused() {
    let data = signs(6, 1, false, false);
    for method in Method::ALL {
        let outcome = run(method, &data, 1, 1);
        assert!(scores(&outcome).iter().all(|v| v.is_finite()), "{method:?}");
    }
    let mut config = Config::default();
    config.num_prototypes = 2;
    let views = |m: usize| -> Dataset {
        let x = Tensor::ones((8, 1, 2), candle_core::DType::F32, &CPU).unwrap();
        let all = (0..m).map(|i| Modality::new(format!("v{i}"), &x, None).unwrap());
        let parts = [
            Part::Train,
            Part::Train,
            Part::Train,
            Part::Train,
            Part::Valid,
            Part::Valid,
            Part::Test,
            Part::Test,
        ];
        Dataset::new("many", all.collect())
            .unwrap()
            .with_labels(Labels::classes(vec![0, 1, 0, 1, 0, 1, 0, 1]))
            .unwrap()
            .with_split("", parts.map(Some).to_vec())
            .unwrap()
    };
    let refused = train(Method::TensorFusion, &settings(1), &config, &views(20));
    let error = refused.unwrap_err().to_string();
    let mut none = settings(1);
    none.rank = 0;
    let refused = train(Method::LowRankFusion, &none, &config, &views(2));
    assert!(refused.unwrap_err().to_string().contains("rank is 0"));
    assert!(
        error.contains("20 modalities") && error.contains("fewer"),
        "{error}"
    );
}
