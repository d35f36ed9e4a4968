//! A model whose text encoder trains with it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign::config::Config;
use decalign::core::nn::Parameters;
use decalign::core::random::Stream;
use decalign::data::{Labels, Modality, Part};
use decalign::text::{Bert, BertConfig, Freeze};
use decalign::train::{DecAlignTrainer, Silent};
use decalign::{Checkpoint, Dataset, Predictor};

const CONFIG: &str = r#"{"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 6}"#;

/// A folder with a small encoder, and its weights.
fn encoder(folder: &Path) -> HashMap<String, Tensor> {
    let parameters = Parameters::new(3, DType::F32, &Device::Cpu);
    let config: BertConfig = serde_json::from_str(CONFIG).unwrap();
    Bert::new(&parameters, &config, Freeze::Nothing).unwrap();
    let named = parameters.named().into_iter();
    let weights: HashMap<String, Tensor> = named
        .map(|(name, var)| (name, var.as_tensor().copy().unwrap()))
        .collect();
    candle_core::safetensors::save(&weights, folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    weights
}

/// Texts whose second word says the score, and audio that does not.
fn data() -> Dataset {
    data_of(5)
}

/// The same, filled up to so many steps.
fn data_of(steps: usize) -> Dataset {
    let n = 200;
    let words = Stream::new(1, 1).uniform(n * 5, 4.0, 12.0);
    let (mut rows, mut scores) = (Vec::new(), Vec::new());
    for text in words.chunks(5) {
        let mut ids: Vec<f32> = text.iter().map(|w| w.floor() as f32).collect();
        ids[0] = 2.0;
        scores.push(if ids[1] < 8.0 { -1.0 } else { 1.0 });
        let mut mask = vec![1.0; 4];
        ids.truncate(4);
        [&mut ids, &mut mask]
            .into_iter()
            .for_each(|row| row.resize(steps, 0.0));
        rows.extend(ids.iter().chain(&mask));
        rows.resize(rows.len() + steps, 0.0);
    }
    let text = Tensor::from_vec(rows, (n, 3, steps), &Device::Cpu).unwrap();
    let audio = Stream::new(1, 2).normal_tensor((n, 4, 3)).unwrap();
    let modalities = vec![
        Modality::new("text", &text, None).unwrap(),
        Modality::new("audio", &audio, None).unwrap(),
    ];
    let part = |i: usize| Some([Part::Train, Part::Train, Part::Valid, Part::Test][i % 4]);
    Dataset::new("made", modalities)
        .unwrap()
        .with_labels(Labels::Scores(scores))
        .unwrap()
        .with_split("", (0..n).map(part).collect())
        .unwrap()
}

fn config(folder: &Path, set: &[&str]) -> Config {
    let mut config = Config::default();
    let folder = format!("pretrained={}", folder.display());
    let plain = [
        "use_bert=true",
        "dst_feature_dim_nheads=8,2",
        "nlevels=1",
        "num_prototypes=2",
        "batch_size=12",
        "num_epochs=2",
        "learning_rate=0.01",
        &folder,
    ];
    for assignment in plain.iter().chain(set) {
        config.set(assignment).unwrap();
    }
    config
}

fn train(folder: &Path, set: &[&str]) -> Checkpoint {
    let trainer = DecAlignTrainer::new(&config(folder, set), &data(), &Device::Cpu).unwrap();
    trainer.run(None, &mut Silent).unwrap().model
}

/// The names of the encoder's weights that are not as in the folder.
fn changed(checkpoint: &Checkpoint, weights: &HashMap<String, Tensor>) -> Vec<String> {
    let differs = |name: &&String| {
        let trained = &checkpoint.weights[&format!("text_model.model.{name}")];
        let apart = (trained - &weights[*name])
            .unwrap()
            .abs()
            .unwrap()
            .sum_all()
            .unwrap();
        apart.to_scalar::<f32>().unwrap() != 0.0
    };
    let sorted: BTreeMap<_, _> = weights.iter().collect();
    sorted.into_keys().filter(differs).cloned().collect()
}

#[test]
fn what_is_frozen_stays_and_the_rest_trains() {
    let folder = tempfile::tempdir().unwrap();
    let weights = encoder(folder.path());
    let of = |set: &[&str]| changed(&train(folder.path(), set), &weights);
    let all = of(&[]);
    // The pooler is not reached, and a bias of keys has no gradient but weight decay, which is 0 on 0.
    assert_eq!(all.len(), weights.len() - 2 - 2);
    assert!(of(&["use_finetune=false"]).is_empty());
    let upper = of(&["bert_frozen_layers=1"]);
    assert_eq!(upper.len(), 15);
    assert!(
        upper
            .iter()
            .all(|name| name.starts_with("encoder.layer.1."))
    );
}

#[test]
fn the_encoder_has_a_learning_rate_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let weights = encoder(folder.path());
    let far = |rate: &str| {
        let checkpoint = train(folder.path(), &[&format!("bert_learning_rate={rate}")]);
        let name = "encoder.layer.0.output.dense.weight";
        let trained = &checkpoint.weights[&format!("text_model.model.{name}")];
        let apart = (trained - &weights[name]).unwrap().abs().unwrap();
        apart.mean_all().unwrap().to_scalar::<f32>().unwrap()
    };
    // Steps of Adam are about as large as its rate.
    let (slow, fast) = (far("1e-5"), far("1e-3"));
    assert!(slow > 1e-6 && slow < 1e-4 && fast > 1e-4, "{slow} {fast}");
}

#[test]
fn a_checkpoint_predicts_without_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    encoder(folder.path());
    let checkpoint = train(folder.path(), &["num_epochs=30", "learning_rate=0.005"]);
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("best.safetensors");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    checkpoint.save(&file).unwrap();
    drop(folder);
    let data = data();
    let rows = data.part(None, Part::Test).unwrap();
    let of = |checkpoint| Predictor::new(checkpoint, &Device::Cpu).unwrap();
    let (kept, read) = (of(checkpoint), of(Checkpoint::open(&file).unwrap()));
    let (a, b) = (
        kept.predict(&data, &rows).unwrap(),
        read.predict(&data, &rows).unwrap(),
    );
    for i in 0..rows.len() {
        assert_eq!(a.scores(i), b.scores(i));
    }
    // The score is in the text, and was learned.
    let metrics = read.evaluate(&data, &rows).unwrap();
    assert!(metrics.get("Corr").unwrap() > 0.7, "{metrics:?}");
}

#[test]
fn what_fills_texts_up_is_not_computed() {
    let folder = tempfile::tempdir().unwrap();
    encoder(folder.path());
    let predictor = Predictor::new(train(folder.path(), &[]), &Device::Cpu).unwrap();
    let rows: Vec<usize> = (0..20).collect();
    let of = |steps: usize| predictor.predict(&data_of(steps), &rows).unwrap();
    // More steps than the encoder has positions for.
    let (short, long) = (of(5), of(9));
    rows.iter()
        .for_each(|i| assert_eq!(short.scores(*i), long.scores(*i)));
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    encoder(folder.path());
    let fails = |set: &[&str], word: &str| {
        let trainer = DecAlignTrainer::new(&config(folder.path(), set), &data(), &Device::Cpu);
        let error = match trainer {
            Err(error) => error,
            Ok(trainer) => trainer.run(None, &mut Silent).unwrap_err(),
        };
        assert!(error.to_string().contains(word), "{error}");
    };
    fails(&["pretrained=null"], "use_bert: needs a text encoder");
    fails(&["pretrained=nowhere"], "nothing is downloaded");
    fails(&["bert_frozen_layers=3"], "the text encoder has 2 layers");
    fails(
        &["modalities=audio"],
        "use_bert: there is no text among audio",
    );
    fails(&["conv1d_kernel_size_l=6"], "whose sequences have 5");
    let huge = r#"{"vocab_size": 999999999999, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 8}"#;
    fails(
        &[&format!("bert_config={huge}")],
        "bert_config: has 8.0e12 parameters",
    );
    let small = CONFIG.replace("12, \"hidden", "9, \"hidden");
    fails(
        &[&format!("bert_config={small}")],
        "config.json makes it [9, 8]",
    );
    std::fs::write(folder.path().join("config.json"), small).unwrap();
    fails(&[], "config.json makes it [9, 8]");
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fails(&[], "model.safetensors: not there");
}

#[test]
fn tokens_of_a_public_file_reach_the_encoder() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../decalign-data/tests/fixtures/pickle/tokens-protocol4.pkl"
    );
    let data = Dataset::open(file).unwrap();
    assert!(data.tokens().is_some() && data.modalities().iter().all(|m| m.name() != "text"));
    let mut config = Config::default();
    let small = r#"bert_config={"vocab_size": 31000, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 64,
        "type_vocab_size": 31000}"#;
    let plain = [
        "use_bert=true",
        "dst_feature_dim_nheads=8,2",
        "nlevels=1",
        "num_prototypes=2",
    ];
    for assignment in plain
        .iter()
        .chain(&["num_epochs=1", "replace_non_finite=true", small])
    {
        config.set(assignment).unwrap();
    }
    let trainer = DecAlignTrainer::new(&config, &data, &Device::Cpu).unwrap();
    let outcome = trainer.run(None, &mut Silent).unwrap();
    let words = "text_model.model.embeddings.word_embeddings.weight";
    assert!(outcome.model.weights.contains_key(words));
    let predictor = Predictor::new(outcome.model, &Device::Cpu).unwrap();
    assert!(predictor.predict(&data, &[0, 1]).is_ok());
}
