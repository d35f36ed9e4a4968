//! Encodes two sentences and prints their similarity; the argument is a folder with `config.json`, `model.safetensors` and
//! `tokenizer.json` (or `vocab.txt`): `cargo run --release -p decalign-text --example encode_sentences -- FOLDER`.

use decalign_text::{TextEncoder, TextPooling};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1);
    let folder = folder
        .ok_or("usage: encode_sentences FOLDER, the folder of a BERT such as all-MiniLM-L6-v2")?;
    let encoder = TextEncoder::open(folder, None, TextPooling::Mean)?.normalized(true);
    let sentences = ["I loved every minute of it.", "What a wonderful film!"];
    let encoded = encoder.encode(&sentences, |_| ())?;
    let vectors = encoded.features.squeeze(1)?.to_vec2::<f32>()?;
    let cosine: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
    println!("{} features for each sentence", encoder.width());
    println!("cosine similarity {cosine:.3}");
    Ok(())
}
