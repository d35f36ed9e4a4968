//! Encoders of candle-transformers against `transformers`; see golden/encoders.py.
#![cfg(feature = "encoders")]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use decalign_text::{TextEncoder, TextPooling};

const NAMES: [&str; 5] = [
    "distilbert",
    "roberta",
    "xlm-roberta",
    "modernbert",
    "deberta-v2",
];
const TEXTS: [&str; 2] = ["good movies not bad", "a film"];

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/encoders", name]
        .iter()
        .collect()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs.fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn states_are_those_of_transformers() {
    for name in NAMES {
        let golden = folder(name).join("states.safetensors");
        let golden = candle_core::safetensors::load(golden, &Device::Cpu).unwrap();
        let encoder = TextEncoder::open(folder(name), None, TextPooling::Tokens).unwrap();
        let ids = encoder.tokenizer().encode(&TEXTS).unwrap();
        let encoded = encoder.encode(&TEXTS, |_| ()).unwrap();
        for (i, ids) in ids.iter().enumerate() {
            let of = |x: &Tensor| x.get(i).unwrap().narrow(0, 0, ids.len()).unwrap();
            let want: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
            assert_eq!(numbers(&of(&golden["ids"])), want, "{name}");
            let far = apart(&of(&encoded.features), &of(&golden["states"]));
            eprintln!("{name}, text {i}: {far:.1e}");
            assert!(far < 1e-5, "{name}, text {i}: {far:.1e}");
        }
        // Alone or beside a longer one, a text is the same.
        let alone = encoder.encode(&TEXTS[1..], |_| ()).unwrap().features;
        let beside = encoded.features.narrow(0, 1, 1).unwrap();
        let beside = beside.narrow(1, 0, alone.dim(1).unwrap()).unwrap();
        assert!(apart(&alone, &beside) < 1e-5, "{name}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let place = tempfile::tempdir().unwrap();
    let fails = |config: &str, word: &str| {
        std::fs::write(place.path().join("config.json"), config).unwrap();
        let opened = TextEncoder::open(place.path(), None, TextPooling::Mean);
        let message = opened.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    fails(
        r#"{"model_type": "t5"}"#,
        "model_type is t5: expected bert, or one of distilbert",
    );
    fails(
        r#"{"model_type": "roberta"}"#,
        "hidden_size: expected a number",
    );
    let sizes = r#"{"model_type": "roberta", "hidden_size": 8, "max_position_embeddings": 9}"#;
    fails(sizes, "model.safetensors: not there");
    for name in ["model.safetensors", "vocab.txt"] {
        std::fs::copy(folder("roberta").join(name), place.path().join(name)).unwrap();
    }
    fails(sizes, "missing field");
    let config = std::fs::read_to_string(folder("roberta").join("config.json")).unwrap();
    fails(
        &config.replace("\"hidden_size\": 16", "\"hidden_size\": 18"),
        "shape mismatch",
    );
}
