//! A small BERT: gradients, frozen parts, padding, folders, errors.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::random::Stream;
use decalign_testkit::largest_difference as distance;
use decalign_text::{
    Activation, Bert, BertConfig, Freeze, Result, TextEncoder, TextPooling, Tokenizer, Tokens,
    load_weights,
};

fn config() -> BertConfig {
    serde_json::from_str(
        r#"{"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 6, "hidden_dropout_prob": 0.2, "unknown": [1]}"#,
    )
    .unwrap()
}

fn parameters(dtype: DType) -> Parameters {
    Parameters::new(5, dtype, &Device::Cpu)
}

fn tokens() -> Tokens {
    Tokens::from_ids(&[vec![1, 4, 7, 2], vec![1, 9, 2]], 0).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

/// A number of all states that exist.
fn loss(bert: &Bert, mode: Mode) -> Result<Tensor> {
    let tokens = tokens();
    let mask = tokens.mask.to_dtype(DType::F64)?.unsqueeze(2)?;
    let states = bert.forward(&tokens, mode)?.sin()?;
    Ok(states.broadcast_mul(&mask)?.sum_all()?)
}

#[test]
fn every_parameter_has_its_gradient() -> Result<()> {
    let set = parameters(DType::F64);
    let bert = Bert::new(&set, &config(), Freeze::Nothing)?;
    for (mode, activation) in [
        (Mode::Inference, Activation::Gelu),
        (Mode::Training(Stream::new(1, 1)), Activation::Gelu),
        (Mode::Inference, Activation::Relu),
    ] {
        let config = BertConfig {
            hidden_act: activation,
            ..config()
        };
        let bert = match activation {
            Activation::Gelu => bert.clone(),
            _ => Bert::new(&set, &config, Freeze::Nothing)?,
        };
        let store = loss(&bert, mode)?.backward()?;
        for (name, var) in set.named() {
            let Some(gradient) = store.get(&var) else {
                assert!(name.starts_with("pooler"), "{name}");
                continue;
            };
            let (gradient, start) = (numbers(gradient), var.as_tensor().copy()?);
            for entry in [0, gradient.len() / 2, gradient.len() - 1] {
                let at = |h: f64| -> Result<f64> {
                    let mut moved = numbers(&start);
                    moved[entry] += h;
                    var.set(&Tensor::from_vec(moved, start.shape(), &Device::Cpu)?)?;
                    Ok(loss(&bert, mode)?.to_scalar()?)
                };
                let want = (at(1e-5)? - at(-1e-5)?) / 2e-5;
                let got = gradient[entry];
                assert!(
                    (got - want).abs() < 1e-7 * want.abs().max(1.0),
                    "{name} {entry}: {got} {want}"
                );
            }
            var.set(&start)?;
        }
    }
    Ok(())
}

#[test]
fn frozen_parts_have_no_gradient_and_the_same_numbers() -> Result<()> {
    let of = |freeze| -> Result<(Tensor, Vec<String>)> {
        let set = parameters(DType::F64);
        let y = loss(&Bert::new(&set, &config(), freeze)?, Mode::Inference)?;
        let store = y.backward()?;
        let named = set.named().into_iter();
        let trained = named
            .filter(|(_, v)| store.get(v).is_some())
            .map(|(name, _)| name);
        Ok((y, trained.collect()))
    };
    let (y, all) = of(Freeze::Nothing)?;
    assert!(all.iter().any(|name| name.starts_with("embeddings.word")));
    for (freeze, left) in [
        (
            Freeze::Layers(0),
            vec!["encoder.layer.0.", "encoder.layer.1."],
        ),
        (Freeze::Layers(1), vec!["encoder.layer.1."]),
        (Freeze::Layers(2), vec![]),
        (Freeze::Everything, vec![]),
    ] {
        let (z, trained) = of(freeze)?;
        assert_eq!(distance(&y, &z), 0.0);
        let want: Vec<&String> = all
            .iter()
            .filter(|name| left.iter().any(|l| name.starts_with(l)))
            .collect();
        assert_eq!(trained.iter().collect::<Vec<_>>(), want);
    }
    assert!(
        of(Freeze::Layers(3))
            .unwrap_err()
            .to_string()
            .contains("the encoder has 2")
    );
    Ok(())
}

#[test]
fn the_word_that_fills_up_is_not_trained() -> Result<()> {
    let set = parameters(DType::F64);
    let bert = Bert::new(&set, &config(), Freeze::Nothing)?;
    // All states count, that of padding too.
    let states = bert.forward(&tokens(), Mode::Inference)?;
    let store = states.sin()?.sum_all()?.backward()?;
    let named = set.named();
    let words = named
        .iter()
        .find(|(name, _)| name.contains("word_embeddings"))
        .unwrap();
    let gradient = store.get(&words.1).unwrap().to_vec2::<f64>()?;
    assert_eq!(gradient[0], [0.0; 8]);
    assert!(gradient[9].iter().any(|g| *g != 0.0));
    Ok(())
}

#[test]
fn padding_changes_nothing() -> Result<()> {
    let bert = Bert::new(&parameters(DType::F64), &config(), Freeze::Nothing)?;
    let together = bert.forward(&tokens(), Mode::Inference)?;
    for (i, text) in [vec![1, 4, 7, 2], vec![1, 9, 2]].into_iter().enumerate() {
        let steps = text.len();
        let alone = bert.forward(&Tokens::from_ids(&[text], 0)?, Mode::Inference)?;
        let part = together.narrow(0, i, 1)?.narrow(1, 0, steps)?;
        assert!(distance(&alone, &part) < 1e-13);
    }
    Ok(())
}

#[test]
fn rows_of_the_release_in_either_order() -> Result<()> {
    let ids = [[1i64, 4, 7, 2], [1, 9, 2, 0]];
    let (mask, segments) = ([[1i64, 1, 1, 1], [1, 1, 1, 0]], [[0i64, 0, 1, 1], [0; 4]]);
    let rows = |second: [[i64; 4]; 2], third: [[i64; 4]; 2]| {
        let each = (0..2).flat_map(|i| [ids[i], second[i], third[i]].concat());
        Tensor::from_vec(each.collect::<Vec<_>>(), (2, 3, 4), &Device::Cpu).unwrap()
    };
    for rows in [rows(mask, segments), rows(segments, mask)] {
        for rows in [rows.clone(), rows.to_dtype(DType::F32)?] {
            let tokens = Tokens::from_rows(&rows)?;
            assert_eq!(tokens.mask.to_vec2::<u8>()?, [[1, 1, 1, 1], [1, 1, 1, 0]]);
            assert_eq!(tokens.segments.to_vec2::<u32>()?, [[0, 0, 1, 1], [0; 4]]);
            assert_eq!(tokens.ids.to_vec2::<u32>()?, [[1, 4, 7, 2], [1, 9, 2, 0]]);
        }
    }
    for bad in [-1.0, 0.5, f64::NAN, 1e12] {
        let rows = Tensor::full(bad, (1, 3, 2), &Device::Cpu)?;
        assert!(
            Tokens::from_rows(&rows)
                .unwrap_err()
                .to_string()
                .contains("whole number")
        );
    }
    assert!(Tokens::from_rows(&Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?).is_err());
    assert!(Tokens::from_ids(&[vec![]], 0).is_err());
    Ok(())
}

#[test]
fn unknown_tokens_and_long_texts_are_named() -> Result<()> {
    let bert = Bert::new(&parameters(DType::F32), &config(), Freeze::Nothing)?;
    let run = |text: Vec<u32>| {
        let tokens = Tokens::from_ids(&[text], 0).unwrap();
        bert.forward(&tokens, Mode::Inference)
            .unwrap_err()
            .to_string()
    };
    assert!(run(vec![1, 12]).contains("token 12 is not known: the encoder has 12"));
    assert!(run(vec![1; 7]).contains("7 tokens: more than the 6"));
    Ok(())
}

const WORDS: [&str; 12] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "movie", "##s", "a", ",", "not", "!",
];

/// A folder with weights of the set under these names.
fn folder(at: &Path, set: &Parameters, rename: impl Fn(&str) -> String) {
    let named = set.named().into_iter();
    let tensors: HashMap<String, Tensor> = named
        .map(|(name, var)| (rename(&name), var.as_tensor().clone()))
        .collect();
    candle_core::safetensors::save(&tensors, at.join("model.safetensors")).unwrap();
    let config = serde_json::to_string(&config()).unwrap();
    std::fs::write(at.join("config.json"), config).unwrap();
    std::fs::write(at.join("vocab.txt"), WORDS.join("\n")).unwrap();
}

#[test]
fn folders_of_older_names_are_read() -> Result<()> {
    let source = parameters(DType::F32);
    let bert = Bert::new(&source, &config(), Freeze::Nothing)?;
    let want = bert.forward(&tokens(), Mode::Inference)?;
    let same = str::to_owned;
    let older = |name: &str| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"))
    };
    for rename in [&same as &dyn Fn(&str) -> String, &older] {
        let folder_of = tempfile::tempdir().unwrap();
        folder(folder_of.path(), &source, rename);
        // Another start, under a prefix, in another type.
        let set = Parameters::new(9, DType::F64, &Device::Cpu);
        let config = BertConfig::open(folder_of.path())?;
        let bert = Bert::new(&set.scope("text"), &config, Freeze::Layers(1))?;
        load_weights(&set, "text.", folder_of.path())?;
        assert!(distance(&bert.forward(&tokens(), Mode::Inference)?, &want) < 1e-5);
    }
    Ok(())
}

#[test]
fn texts_become_vectors_and_sequences() -> Result<()> {
    let at = tempfile::tempdir().unwrap();
    let set = parameters(DType::F32);
    let bert = Bert::new(&set, &config(), Freeze::Nothing)?;
    folder(at.path(), &set, str::to_owned);
    let tokenizer = Tokenizer::open(at.path(), 6)?;
    let texts = ["Good movies, not bad!", "", "a unseen"];
    let ids = tokenizer.encode(&texts)?;
    // Cut at six; word pieces; unknown words; capital letters.
    assert_eq!(ids, [vec![2, 4, 6, 7, 9, 3], vec![2, 3], vec![2, 8, 1, 3]]);
    let rows = Tokens::from_rows(&tokenizer.rows(&texts, 0)?)?;
    assert_eq!(rows.ids.to_vec2::<u32>()?[2], [2, 8, 1, 3, 0, 0]);
    assert_eq!(rows.mask.to_vec2::<u8>()?[1], [1, 1, 0, 0, 0, 0]);
    let states = |ids: &[u32]| -> Result<Tensor> {
        let tokens = Tokens::from_ids(&[ids.to_vec()], 0)?;
        Ok(bert.forward(&tokens, Mode::Inference)?.squeeze(0)?)
    };
    let open = |pooling| TextEncoder::open(at.path(), None, pooling);
    let done = std::sync::Mutex::new(Vec::new());
    let mean = open(TextPooling::Mean)?.encode(&texts, |n| done.lock().unwrap().push(n))?;
    assert_eq!(*done.lock().unwrap(), [3]);
    let cls = open(TextPooling::Cls)?.encode(&texts, |_| ())?;
    let unit = open(TextPooling::Mean)?
        .normalized(true)
        .encode(&texts, |_| ())?;
    let sequences = open(TextPooling::Tokens)?.encode(&texts, |_| ())?;
    assert_eq!(
        (mean.features.dims(), &mean.lengths),
        (&[3, 1, 8][..], &vec![1, 1, 1])
    );
    assert_eq!(
        (sequences.features.dims(), &sequences.lengths),
        (&[3, 6, 8][..], &vec![6, 2, 4])
    );
    for (i, ids) in ids.iter().enumerate() {
        let states = states(ids)?;
        let row = |x: &Tensor| x.get(i).unwrap();
        let average = states.mean_keepdim(0)?;
        assert!(distance(&row(&mean.features), &average) < 1e-6);
        assert!(distance(&row(&cls.features), &states.narrow(0, 0, 1)?) < 1e-6);
        assert!(distance(&row(&sequences.features).narrow(0, 0, ids.len())?, &states) < 1e-6);
        let length = average.sqr()?.sum_all()?.sqrt()?;
        let direction = average.broadcast_div(&length)?;
        assert!(distance(&row(&unit.features), &direction) < 1e-6);
    }
    let behind = sequences.features.get(1)?.narrow(0, 2, 4)?;
    assert!(numbers(&behind).iter().all(|v| *v == 0.0));
    Ok(())
}

#[test]
fn threads_do_not_change_what_is_encoded() -> Result<()> {
    let at = tempfile::tempdir().unwrap();
    let set = parameters(DType::F32);
    Bert::new(&set, &config(), Freeze::Nothing)?;
    folder(at.path(), &set, str::to_owned);
    let texts: Vec<String> = (0..700)
        .map(|i| WORDS[4..][..1 + i % 4].join(" "))
        .collect();
    let run = |threads| {
        let pool = rayon_pool(threads);
        pool.install(|| -> Result<Tensor> {
            let encoder = TextEncoder::open(at.path(), None, TextPooling::Mean)?;
            Ok(encoder.encode(&texts, |_| ())?.features)
        })
    };
    assert_eq!(distance(&run(1)?, &run(3)?), 0.0);
    Ok(())
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

#[test]
fn broken_folders_are_errors_that_name_the_file() {
    let at = tempfile::tempdir().unwrap();
    let set = parameters(DType::F32);
    Bert::new(&set, &config(), Freeze::Nothing).unwrap();
    let fails = |word: &str| {
        let error = TextEncoder::open(at.path(), None, TextPooling::Mean).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    let there = |name: &str| at.path().join(name);
    let fresh = || folder(at.path(), &set, str::to_owned);
    fails("config.json");
    fresh();
    std::fs::write(there("config.json"), "{\"vocab_size\": 3}").unwrap();
    fails("hidden_size");
    for (key, value, word) in [
        ("model_type", "\"t5\"", "model_type is t5"),
        ("hidden_act", "\"swish\"", "swish"),
        ("num_attention_heads", "3", "num_attention_heads is 3"),
        ("hidden_size", "0", "hidden_size is 0"),
        ("position_embedding_type", "\"relative_key\"", "absolute"),
        ("is_decoder", "true", "is_decoder"),
        ("hidden_dropout_prob", "1.5", "hidden_dropout_prob is 1.5"),
        ("layer_norm_eps", "0.0", "layer_norm_eps"),
        (
            "intermediate_size",
            "13",
            "shape [12], config.json makes it [13]",
        ),
        ("num_hidden_layers", "3", "encoder.layer.2"),
    ] {
        let mut config = serde_json::to_value(config()).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        std::fs::write(there("config.json"), config.to_string()).unwrap();
        fails(word);
    }
    fresh();
    std::fs::write(there("model.safetensors"), [1, 2, 3]).unwrap();
    fails("model.safetensors");
    std::fs::remove_file(there("model.safetensors")).unwrap();
    fails("convert the weights");
    fresh();
    std::fs::write(there("vocab.txt"), "a\nb").unwrap();
    fails("[SEP] is missing");
    std::fs::remove_file(there("vocab.txt")).unwrap();
    fails("neither tokenizer.json nor vocab.txt");
    std::fs::write(there("tokenizer.json"), "{").unwrap();
    fails("tokenizer.json");
    let missing = TextEncoder::open(there("none"), None, TextPooling::Mean).unwrap_err();
    assert!(
        missing.to_string().contains("nothing is downloaded"),
        "{missing}"
    );
    std::fs::remove_file(there("tokenizer.json")).unwrap();
    fresh();
    let long = TextEncoder::open(at.path(), Some(7), TextPooling::Mean).unwrap_err();
    assert!(long.to_string().contains("longer than the 6"), "{long}");
    let short = TextEncoder::open(at.path(), Some(2), TextPooling::Mean).unwrap_err();
    assert!(short.to_string().contains("3 or more"), "{short}");
}
