//! The real MiniLM against `transformers`; see golden/make.py. `cargo xtask minilm` puts it where these tests look.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::{Mode, Parameters};
use decalign_testkit::largest_difference as distance;
use decalign_text::{
    Bert, BertConfig, Freeze, Result, TextEncoder, TextPooling, Tokens, load_weights,
};

const SENTENCES: [&str; 4] = [
    "I really liked this movie, it was great!",
    "um (stutter) the acting's... not so good; 3.5 out of 10",
    "Naïve café-goers éat 日本語 tokens & untokenizablewords",
    "yes",
];

/// The folder, or nothing and a printed reason.
fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("DECALIGN_MINILM").map(PathBuf::from);
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/minilm");
    let folder = given.unwrap_or_else(|| place.into());
    if !folder.join("model.safetensors").exists() {
        eprintln!(
            "skipped: no MiniLM in {}; `cargo xtask minilm` installs it",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

fn golden(name: &str) -> Tensor {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/minilm.safetensors"
    );
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()[name].clone()
}

#[test]
fn sentences_have_the_numbers_of_transformers() -> Result<()> {
    let Some(folder) = folder() else {
        return Ok(());
    };
    let encoder = TextEncoder::open(&folder, None, TextPooling::Mean)?;
    let ids = encoder.tokenizer().encode(&SENTENCES)?;
    let want = golden("ids").to_dtype(DType::U32)?.to_vec2::<u32>()?;
    let lengths = golden("mask")
        .to_dtype(DType::U32)?
        .sum(1)?
        .to_vec1::<u32>()?;
    for ((ids, want), length) in ids.iter().zip(&want).zip(lengths) {
        assert_eq!(ids, &want[..length as usize]);
    }
    let mean = encoder.encode(&SENTENCES, |_| ())?;
    let apart = distance(&mean.features.squeeze(1)?, &golden("mean"));
    let states =
        TextEncoder::open(&folder, None, TextPooling::Tokens)?.encode(&SENTENCES[..1], |_| ())?;
    let far = distance(&states.features.squeeze(0)?, &golden("states"));
    eprintln!("largest differences: means {apart:.1e}, states {far:.1e}");
    assert!(apart < 1e-5 && far < 2e-5);
    Ok(())
}

#[test]
fn fine_tuning_reaches_every_layer() -> Result<()> {
    let Some(folder) = folder() else {
        return Ok(());
    };
    let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    let bert = Bert::new(&parameters, &BertConfig::open(&folder)?, Freeze::Layers(2))?;
    load_weights(&parameters, "", &folder)?;
    let tokens = Tokens::from_ids(&[vec![101, 2307, 102], vec![101, 2919, 3185, 102]], 0)?;
    let store = bert
        .forward(&tokens, Mode::Inference)?
        .sqr()?
        .mean_all()?
        .backward()?;
    let trained = parameters
        .named()
        .into_iter()
        .filter(|(_, v)| store.get(v).is_some());
    let names: Vec<String> = trained.map(|(name, _)| name).collect();
    // Sixteen parameters a layer, of four layers.
    assert_eq!(names.len(), 64);
    assert!(
        names
            .iter()
            .all(|n| !n.contains("layer.0.") && !n.contains("layer.1."))
    );
    Ok(())
}

#[cfg(feature = "encoders")]
#[test]
fn states_are_those_of_candle_transformers() -> Result<()> {
    use candle_transformers::models::bert::{BertModel, Config};
    let Some(folder) = folder() else {
        return Ok(());
    };
    let weights = folder.join("model.safetensors");
    let weights = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    let weights = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let config = std::fs::read(folder.join("config.json")).unwrap();
    let config: Config = serde_json::from_slice(&config).unwrap();
    let theirs = BertModel::load(weights, &config).unwrap();
    let encoder = TextEncoder::open(&folder, None, TextPooling::Tokens)?;
    let ids = encoder.tokenizer().encode(&SENTENCES)?;
    let tokens = Tokens::from_ids(&ids, 0)?;
    let theirs = theirs
        .forward(&tokens.ids, &tokens.segments, Some(&tokens.mask))
        .unwrap();
    let ours = encoder.encode(&SENTENCES, |_| ())?.features;
    let mut most = 0.0;
    for (i, ids) in ids.iter().enumerate() {
        let of = |x: &Tensor| x.get(i).unwrap().narrow(0, 0, ids.len()).unwrap();
        most = distance(&of(&ours), &of(&theirs)).max(most);
    }
    eprintln!("largest difference: {most:.1e}");
    assert!(most < 1e-4);
    Ok(())
}
