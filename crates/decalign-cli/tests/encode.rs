//! `decalign encode`, and training on what it writes.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use decalign::Dataset;
use decalign::core::nn::Parameters;
use decalign::core::random::Stream;
use decalign::data::{Labels, Modality, Part};
use decalign::text::{Bert, BertConfig, Freeze, TextEncoder, TextPooling};

const CONFIG: &str = r#"{"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 9}"#;
const WORDS: [&str; 8] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "movie", "##s",
];

/// A folder with an encoder, and a data set with and without transcripts.
fn prepare(folder: &Path) -> Vec<String> {
    let encoder = folder.join("encoder");
    std::fs::create_dir(&encoder).unwrap();
    let parameters = Parameters::new(3, DType::F32, &Device::Cpu);
    let config: BertConfig = serde_json::from_str(CONFIG).unwrap();
    Bert::new(&parameters, &config, Freeze::Nothing).unwrap();
    let named = parameters.named().into_iter();
    let weights: HashMap<String, Tensor> = named
        .map(|(name, var)| (name, var.as_tensor().clone()))
        .collect();
    candle_core::safetensors::save(&weights, encoder.join("model.safetensors")).unwrap();
    std::fs::write(encoder.join("config.json"), CONFIG).unwrap();
    std::fs::write(encoder.join("vocab.txt"), WORDS.join("\n")).unwrap();

    let n = 24;
    let texts: Vec<String> = (0..n)
        .map(|i| ["good movies", "bad", "not a good movie", "bad bad"][i % 4].to_owned())
        .collect();
    let audio = Stream::new(1, 1).normal_tensor((n, 3)).unwrap();
    let scores = (0..n)
        .map(|i| if i % 2 == 0 { 1.0 } else { -1.0 })
        .collect();
    let part = |i: usize| Some([Part::Train, Part::Valid, Part::Train, Part::Test][(i / 2) % 4]);
    let data = Dataset::new("made", vec![Modality::new("audio", &audio, None).unwrap()])
        .unwrap()
        .with_labels(Labels::Scores(scores))
        .unwrap()
        .with_split("", (0..n).map(part).collect())
        .unwrap()
        .with_ids((0..n).map(|i| format!("v{i}")).collect())
        .unwrap();
    data.save(folder.join("plain.safetensors")).unwrap();
    let data = data.with_texts(texts.clone()).unwrap();
    data.save(folder.join("data.safetensors")).unwrap();
    texts
}

fn run(folder: &Path, line: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decalign"));
    let ended = command
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    (
        ended.status.code().unwrap(),
        String::from_utf8(ended.stderr).unwrap(),
    )
}

#[test]
fn transcripts_become_features_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, texts) = (folder.path(), prepare(folder.path()));
    let encode = |rest: &str| {
        let (code, said) = run(
            folder,
            &format!("encode data.safetensors --encoder encoder {rest}"),
        );
        assert_eq!(code, 0, "{said}");
        let out = rest.split_whitespace().last().unwrap();
        Dataset::open(folder.join(out)).unwrap()
    };
    let mean = encode("--out mean.safetensors");
    let text = &mean.modalities()[0];
    assert_eq!(
        (text.name(), text.features().dims()),
        ("text", &[24, 1, 8][..])
    );
    assert_eq!(mean.texts().unwrap(), texts);
    let encoder = TextEncoder::open(folder.join("encoder"), None, TextPooling::Mean).unwrap();
    let want = encoder.encode(&texts, |_| ()).unwrap().features;
    let apart = (text.features() - want)
        .unwrap()
        .abs()
        .unwrap()
        .sum_all()
        .unwrap();
    assert_eq!(apart.to_scalar::<f32>().unwrap(), 0.0);
    let steps =
        encode("--pool tokens --max-tokens 4 --normalize --name words --out steps.safetensors");
    let words = steps
        .modalities()
        .iter()
        .find(|m| m.name() == "words")
        .unwrap();
    assert_eq!(words.features().dims(), [24, 4, 8]);
    assert_eq!(words.lengths().unwrap()[..2], [4, 3]);
    let ids = encode("--pool ids --out ids.safetensors");
    assert_eq!(ids.modalities()[0].features().dims()[1], 3);
    let settings = "--set use_bert=true --set pretrained=encoder --set nlevels=1 --set batch_size=12 --epochs 2 \
                    --set num_prototypes=2 --set dst_feature_dim_nheads=8,2";
    let (code, said) = run(
        folder,
        &format!("train --dataset ids.safetensors --run-dir run {settings}"),
    );
    assert_eq!(code, 0, "{said}");
    let (code, said) = run(
        folder,
        "predict run/best.safetensors ids.safetensors -o scores.csv",
    );
    assert_eq!(code, 0, "{said}");
}

#[test]
fn transcripts_come_from_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, texts) = (folder.path(), prepare(folder.path()));
    let lines = |order: &mut dyn Iterator<Item = usize>, id: bool| -> String {
        let line = |i: usize| match id {
            true => format!("{{\"id\": \"v{i}\", \"text\": \"{}\"}}\n", texts[i]),
            false => format!("{{\"text\": \"{}\"}}\n\n", texts[i]),
        };
        order.map(line).collect()
    };
    for text in [lines(&mut (0..24).rev(), true), lines(&mut (0..24), false)] {
        std::fs::write(folder.join("texts.jsonl"), text).unwrap();
        let (code, said) = run(
            folder,
            "encode plain.safetensors --encoder encoder --texts texts.jsonl --out out.safetensors",
        );
        assert_eq!(code, 0, "{said}");
        let data = Dataset::open(folder.join("out.safetensors")).unwrap();
        assert_eq!(data.texts().unwrap(), texts);
    }
}

#[test]
fn bad_input_is_one_line_and_status_two() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    std::fs::write(folder.join("short.jsonl"), "{\"text\": \"good\"}\n").unwrap();
    std::fs::write(folder.join("broken.jsonl"), "{\"text\": 3}\n").unwrap();
    for (line, word) in [
        (
            "plain.safetensors --encoder encoder --out x",
            "no transcripts",
        ),
        (
            "data.safetensors --encoder none --out x",
            "nothing is downloaded",
        ),
        (
            "data.safetensors --encoder encoder --out data.safetensors",
            "replace an input",
        ),
        (
            "data.safetensors --encoder encoder --max-tokens 10 --out x",
            "longer than the 9",
        ),
        (
            "data.safetensors --encoder encoder --max-tokens 1 --out x",
            "3 or more",
        ),
        (
            "data.safetensors --encoder encoder --threads 0 --out x",
            "--threads 0",
        ),
        (
            "plain.safetensors --encoder encoder --texts none.jsonl --out x",
            "none.jsonl",
        ),
        (
            "plain.safetensors --encoder encoder --texts short.jsonl --out x",
            "1 texts for 24 samples",
        ),
        (
            "plain.safetensors --encoder encoder --texts broken.jsonl --out x",
            "line 1",
        ),
    ] {
        let (code, said) = run(folder, &format!("encode {line}"));
        assert_eq!((code, said.lines().count()), (2, 1), "{line}: {said}");
        assert!(
            said.starts_with("decalign: ") && said.contains(word),
            "{line}: {said}"
        );
        assert!(!folder.join("x").exists());
    }
}
